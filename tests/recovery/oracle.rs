//! What must come out, and whether what came out is a part of it: read from the files alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::input::{Input, KEYS_APART, SOURCES, STRIDE};
use crate::scratch::read_tree;

/// A record was lost, repeated, changed or withdrawn.
pub(crate) type Verdict<T = ()> = Result<T, String>;

/// Looks at an output directory again and again.
#[derive(Debug)]
pub(crate) struct Witness {
    directory: PathBuf,
    seen: BTreeMap<PathBuf, Vec<u8>>,
}

impl Witness {
    pub(crate) fn new(directory: impl Into<PathBuf>) -> Witness {
        Witness { directory: directory.into(), seen: BTreeMap::new() }
    }

    /// The committed lines, in the order of the files' names. What was committed at an earlier look must still be there, unchanged.
    pub(crate) fn committed(&mut self) -> Verdict<Vec<String>> {
        let mut files = read_tree(&self.directory);
        files.retain(|path, _| path.extension().is_some_and(|end| end == "csv"));
        for (path, content) in &self.seen {
            match files.get(path) {
                Some(now) if now == content => {}
                Some(_) => return Err(format!("{} was changed after its commit", path.display())),
                None => return Err(format!("{} was withdrawn after its commit", path.display())),
            }
        }
        let mut lines = Vec::new();
        for (path, content) in &files {
            let text = std::str::from_utf8(content).map_err(|_| format!("{} is not text", path.display()))?;
            if !text.ends_with('\n') {
                return Err(format!("{} was committed in part (or empty)", path.display()));
            }
            lines.extend(text.lines().map(str::to_owned));
        }
        self.seen = files;
        Ok(lines)
    }
}

/// The lines of the flights job, by aircraft.
#[derive(Clone, Debug)]
pub(crate) struct FlightsOracle {
    expected: HashMap<String, Vec<String>>,
    lines: usize,
}

impl FlightsOracle {
    /// From the first `rows` rows of an input file.
    pub(crate) fn new(csv: &str, rows: usize) -> FlightsOracle {
        assert!(!csv.contains('"'), "this oracle splits at commas");
        let mut rows_and_header = csv.lines();
        let header: Vec<&str> = rows_and_header.next().expect("a header").split(',').collect();
        let column = |name| header.iter().position(|column| *column == name).expect("the column is there");
        let (tailnum, delay, hour) = (column("tailnum"), column("dep_delay"), column("time_hour"));
        let mut oracle = FlightsOracle { expected: HashMap::new(), lines: 0 };
        let mut totals: HashMap<&str, i64> = HashMap::new();
        for row in rows_and_header.take(rows) {
            let fields: Vec<&str> = row.split(',').collect();
            if fields[delay] == "NA" {
                continue;
            }
            let aircraft = fields[tailnum];
            let total = totals.entry(aircraft).or_default();
            *total += fields[delay].parse::<i64>().expect("minutes");
            let lines = oracle.expected.entry(aircraft.to_owned()).or_default();
            lines.push(format!("{aircraft},{},{total},{}", lines.len() + 1, fields[hour]));
            oracle.lines += 1;
        }
        oracle
    }

    /// How many lines there are in the end.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// That committed lines are right, each there once, and of each aircraft the first ones in their order.
    pub(crate) fn check(&self, committed: &[String]) -> Verdict {
        let mut next: HashMap<&str, usize> = HashMap::new();
        for line in committed {
            let aircraft = line.split(',').next().unwrap_or_default();
            let position = next.entry(aircraft).or_default();
            let expected = self.expected.get(aircraft).and_then(|lines| lines.get(*position));
            if expected != Some(line) {
                return Err(format!("`{line}` was committed where {expected:?} had to come"));
            }
            *position += 1;
        }
        Ok(())
    }

    /// That all lines are committed.
    pub(crate) fn check_complete(&self, committed: &[String]) -> Verdict {
        self.check(committed)?;
        if committed.len() != self.lines {
            return Err(format!("{} of {} lines are missing", self.lines - committed.len(), self.lines));
        }
        Ok(())
    }
}

/// Both outputs of the second job.
#[derive(Debug)]
pub(crate) struct SecondJobOracle {
    input: Input,
    all: Witness,
    marked: Witness,
}

/// A line of the second job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Line {
    key: u64,
    sequence: u64,
    different: u64,
    id: u64,
}

impl Line {
    fn parse(line: &str) -> Verdict<Line> {
        let numbers: Option<Vec<u64>> = line.split(',').map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[key, sequence, different, id]) => Ok(Line { key, sequence, different, id }),
            _ => Err(format!("`{line}` is not a line of this job")),
        }
    }
}

impl SecondJobOracle {
    pub(crate) fn new(input: Input, output: &Path) -> SecondJobOracle {
        SecondJobOracle { input, all: Witness::new(output.join("all")), marked: Witness::new(output.join("marked")) }
    }

    /// Every id of the input.
    fn ids(&self) -> impl Iterator<Item = u64> {
        let input = self.input;
        (0..SOURCES.len()).flat_map(move |source| (0..input.count(source)).map(move |index| Input::id(source, index)))
    }

    /// A line that belongs to a record.
    fn line(&self, name: &str, text: &str) -> Verdict<Line> {
        let line = Line::parse(text)?;
        let (source, index) = ((line.id / STRIDE) as usize, line.id % STRIDE);
        if source >= SOURCES.len() || index >= self.input.count(source) || self.input.key(line.id) != line.key {
            return Err(format!("{name}: `{text}` belongs to no record"));
        }
        Ok(line)
    }

    /// What must hold in the end where records may count again: every record is out, none was forgotten by the state, and files that were committed stay. Gives how many came again.
    pub(crate) fn check_at_least_once(&mut self) -> Verdict<usize> {
        let mut again = 0;
        for (name, committed) in [("all", self.all.committed()?), ("marked", self.marked.committed()?)] {
            let mut ids = HashSet::new();
            let mut different: HashMap<u64, u64> = HashMap::new();
            for text in &committed {
                let line = self.line(name, text)?;
                if line.different > line.sequence {
                    return Err(format!("{name}: `{text}`: the state knows more ids than records"));
                }
                let most = different.entry(line.key).or_default();
                *most = line.different.max(*most);
                again += usize::from(!ids.insert(line.id));
            }
            let wanted = |id: &u64| name == "all" || self.input.is_marked(*id);
            if let Some(missing) = self.ids().filter(wanted).find(|id| !ids.contains(id)) {
                return Err(format!("{name}: the record {missing} is missing"));
            }
            let mut of_key: HashMap<u64, u64> = HashMap::new();
            self.ids().for_each(|id| *of_key.entry(self.input.key(id)).or_default() += 1);
            if name == "all" && different != of_key {
                return Err("all: the state of a key does not know all its records in the end".to_owned());
            }
        }
        Ok(again)
    }

    /// What holds for the lines of one output: each is right by itself, and its id comes once.
    fn lines(&self, name: &str, committed: &[String]) -> Verdict<Vec<Line>> {
        let mut ids = HashSet::new();
        let mut lines = Vec::new();
        for text in committed {
            let line = self.line(name, text)?;
            if !ids.insert(line.id) {
                return Err(format!("{name}: the record {} came out twice, the second time as `{text}`", line.id));
            }
            if line.different != line.sequence {
                return Err(format!("{name}: `{text}`: the state had taken a record of its key twice"));
            }
            lines.push(line);
        }
        Ok(lines)
    }

    /// What must hold after every kill. Gives the number of committed lines.
    pub(crate) fn check(&mut self) -> Verdict<usize> {
        Ok(self.look()?.0.len())
    }

    fn look(&mut self) -> Verdict<(Vec<Line>, Vec<Line>)> {
        let (all, marked) = (self.all.committed()?, self.marked.committed()?);
        let (all, marked) = (self.lines("all", &all)?, self.lines("marked", &marked)?);
        // The sink runs in the subtask that numbers, and commits in order: what is out is the first part of every key.
        let mut last: HashMap<u64, u64> = HashMap::new();
        for line in &all {
            let last = last.entry(line.key).or_default();
            if line.sequence != *last + 1 {
                return Err(format!("all: after number {last} of key {} came {}", line.key, line.sequence));
            }
            *last = line.sequence;
        }
        if let Some(wrong) = marked.iter().find(|line| !self.input.is_marked(line.id)) {
            return Err(format!("marked: the record {} is not marked", wrong.id));
        }
        let numbers: HashSet<_> = marked.iter().map(|line| (line.key, line.sequence)).collect();
        if numbers.len() != marked.len() {
            return Err("marked: a number of a key was given to two records".to_owned());
        }
        Ok((all, marked))
    }

    /// What must hold in the end: every record is out, in both outputs with the same number.
    pub(crate) fn check_complete(&mut self) -> Verdict {
        let (all, marked) = self.look()?;
        let out: BTreeSet<u64> = all.iter().map(|line| line.id).collect();
        let missing: Vec<u64> = self.ids().filter(|id| !out.contains(id)).collect();
        if !missing.is_empty() {
            return Err(format!("all: {} records are missing, the first is {}", missing.len(), missing[0]));
        }
        let expected: HashSet<Line> = all.into_iter().filter(|line| self.input.is_marked(line.id)).collect();
        let marked: HashSet<Line> = marked.into_iter().collect();
        if let Some(wrong) = expected.symmetric_difference(&marked).next() {
            let missing = expected.len().saturating_sub(marked.len());
            return Err(format!("marked: {missing} records are missing; {wrong:?} differs from the other output"));
        }
        Ok(())
    }
}

/// The output of the region that has nothing to do with the others.
#[derive(Debug)]
pub(crate) struct ApartOracle {
    records: u64,
    witness: Witness,
}

impl ApartOracle {
    pub(crate) fn new(records: u64, output: &Path) -> ApartOracle {
        ApartOracle { records, witness: Witness::new(output.join("apart")) }
    }

    /// That the records are out once, each with its number: all of them, if `complete`.
    pub(crate) fn check(&mut self, complete: bool) -> Verdict {
        let mut next: HashMap<u64, u64> = HashMap::new();
        let committed = self.witness.committed()?;
        for line in &committed {
            let numbers: Option<Vec<u64>> = line.split(',').map(|number| number.parse().ok()).collect();
            let Some([index, count]) = numbers.as_deref() else { return Err(format!("apart: `{line}`")) };
            // Each key is read in order, by one source, and counted from one.
            let before = next.entry(index % KEYS_APART).or_default();
            *before += 1;
            if *index >= self.records || count != before || *index != index % KEYS_APART + (count - 1) * KEYS_APART {
                return Err(format!("apart: `{line}` was committed as number {before} of its key"));
            }
        }
        if complete && committed.len() as u64 != self.records {
            return Err(format!("apart: {} of {} lines are out", committed.len(), self.records));
        }
        Ok(())
    }
}
