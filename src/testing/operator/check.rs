//! Whether an operator gives the same state and the same output however often it is cut and restored, at whatever parallelism.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::OperatorTest;
use super::error::OperatorTestError;
use super::running::RunningOperator;
use super::state::{Contents, Entry};
use crate::fault::Random;
use crate::record::Record;
use crate::testing::tree::Tree;

/// So many differences are told.
const TOLD: usize = 5;

/// How [`OperatorTest::check_restores`] cuts and restores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreCheck {
    seed: u64,
    cases: u32,
    most_restores: u32,
    most_subtasks: u32,
}

impl RestoreCheck {
    /// A hundred cases that `seed` decides, each with one to three restores and one to four subtasks.
    #[must_use]
    pub fn new(seed: u64) -> RestoreCheck {
        RestoreCheck { seed, cases: 100, most_restores: 3, most_subtasks: 4 }
    }

    /// So many cases.
    #[must_use]
    pub fn cases(self, cases: u32) -> RestoreCheck {
        RestoreCheck { cases, ..self }
    }

    /// At most so many restores in a case; at least 1.
    #[must_use]
    pub fn most_restores(self, most_restores: u32) -> RestoreCheck {
        RestoreCheck { most_restores: most_restores.max(1), ..self }
    }

    /// At most so many subtasks; 1 for an operator that must not run in parallel.
    #[must_use]
    pub fn most_subtasks(self, most_subtasks: u32) -> RestoreCheck {
        RestoreCheck { most_subtasks: most_subtasks.max(1), ..self }
    }
}

/// What [`OperatorTest::check_restores`] found.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum RestoreError {
    /// The operator failed, or could not be restored.
    #[error("{course}: {error}")]
    Failed {
        /// How it was run.
        course: String,
        /// What happened.
        error: OperatorTestError,
    },
    /// The operator does not do the same when the same is done with it, so that nothing can be compared: it takes something from a clock, from chance, or from what an earlier instance
    /// left in memory that both share.
    #[error(
        "{course}, done twice, does not end the same: take time, chance and memory from the operator's context and state, and keep there what has an order (a `HashSet` is stored in a random \
         one, a `BTreeSet` is not)\n  {}", differences.join("\n  ")
    )]
    NotDeterministic {
        /// How it was run, both times.
        course: String,
        /// In what the second run differs from the first; the first few.
        differences: Vec<String>,
    },
    /// State or output differ from those of an unbroken run in one subtask.
    #[error("{course}\n  {}", differences.join("\n  "))]
    Differs {
        /// How it was run: the shortest course that was found.
        course: String,
        /// What differs; the first few.
        differences: Vec<String>,
    },
}

/// One way through the records.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Course {
    /// How many records there are.
    records: usize,
    /// The parallelism of the first instance.
    first: u32,
    /// In front of which record it is restored, and into how many subtasks. Sorted.
    restores: Vec<(usize, u32)>,
}

/// What is compared.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    state: Contents,
    /// How often each record came out of each output; the main one has no name.
    output: BTreeMap<(String, Tree), usize>,
}

impl<I: Clone, U: Record> OperatorTest<I, U> {
    /// Runs `records` through the operator, one after the other, with cuts and restores that a seed decides, at parallelism before and after that it decides
    /// too: the state must end as it does in one subtask without any of that, and all together the same records must come out, in any order. Of operator state the
    /// elements count, whichever instance holds them and in whatever order, and broadcast maps, which must be the same in all instances.
    ///
    /// It finds what an operator keeps where no checkpoint sees it, in a plain field for example, and what depends on other keys of the same subtask. An operator
    /// that emits [where it runs](crate::operator::KeyedContext::subtask) differs by intent. State is compared as it is encoded, maps without regard to
    /// their order; a `HashSet` is a list to whoever reads it and should be a `BTreeSet`.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    ///
    /// use alluvium::Stream;
    /// use alluvium::testing::operator::{OperatorTest, RestoreCheck};
    ///
    /// let sums = |numbers: Stream<u64>| {
    ///     numbers.key_by_value(|number| number % 3).aggregate("sums", 0_u64, |_, sum, number| {
    ///         *sum += number;
    ///         *sum
    ///     })
    /// };
    /// OperatorTest::new(sums).check_restores(&[5, 4, 3, 8, 7], RestoreCheck::new(1)).unwrap();
    ///
    /// // This one remembers the greatest number in a variable of its own.
    /// let greatest = |numbers: Stream<u64>| {
    ///     let seen = Cell::new(0);
    ///     numbers.key_by_value(|number| number % 3).aggregate("count", 0_u64, move |_, count, number| {
    ///         *count += 1;
    ///         seen.set(seen.get().max(number));
    ///         seen.get()
    ///     })
    /// };
    /// let found = OperatorTest::new(greatest).check_restores(&[5, 4, 3, 8, 7], RestoreCheck::new(1)).unwrap_err();
    /// assert_eq!(
    ///     found.to_string(),
    ///     "2 records in 2 subtasks, without a restore\n  \
    ///      output: 4 comes out once instead of never\n  \
    ///      output: 5 comes out once instead of twice"
    /// );
    /// ```
    ///
    /// # Errors
    /// When the operator fails, when it does not do the same twice, or the first difference, with the shortest course that leads to one.
    pub fn check_restores(&self, records: &[I], check: RestoreCheck) -> Result<(), RestoreError> {
        let mut random = Random::new(check.seed);
        let whole = Course::unbroken(records.len());
        let unbroken = self.follow(records, &whole)?;
        self.comes_again(records, &whole, &unbroken)?;
        for _ in 0..check.cases {
            let course = Course::draw(records.len(), check, &mut random);
            let found = self.follow(records, &course)?;
            if found != unbroken {
                let (course, found, expected) = self.shorten(records, course, found, unbroken)?;
                self.comes_again(records, &Course::unbroken(course.records), &expected)?;
                self.comes_again(records, &course, &found)?;
                let differences = differences(&found, &expected);
                return Err(RestoreError::Differs { course: course.to_string(), differences });
            }
        }
        Ok(())
    }

    /// Follows a course once more: it has to come to the same end.
    fn comes_again(&self, records: &[I], course: &Course, first: &Outcome) -> Result<(), RestoreError> {
        let again = self.follow(records, course)?;
        if again == *first {
            return Ok(());
        }
        let differences = differences(&again, first);
        Err(RestoreError::NotDeterministic { course: course.to_string(), differences })
    }

    fn follow(&self, records: &[I], course: &Course) -> Result<Outcome, RestoreError> {
        self.try_follow(records, course).map_err(|error| RestoreError::Failed { course: course.to_string(), error })
    }

    fn try_follow(&self, records: &[I], course: &Course) -> Result<Outcome, OperatorTestError> {
        let mut output = BTreeMap::new();
        let mut running = self.parallelism(course.first).start()?;
        let mut position = 0;
        for (end, parallelism) in &course.restores {
            push_each(&mut running, &records[position..*end])?;
            position = *end;
            let snapshot = running.snapshot()?;
            running.count_output(&mut output)?;
            running = self.parallelism(*parallelism).restore(&snapshot)?;
        }
        push_each(&mut running, &records[position..course.records])?;
        let state = running.snapshot()?.contents()?;
        running.finish()?;
        running.count_output(&mut output)?;
        Ok(Outcome { state, output })
    }

    /// The shortest course that still differs, as far as dropping one thing after the other finds it, with what came of it and what comes of the unbroken one.
    fn shorten(
        &self,
        records: &[I],
        course: Course,
        found: Outcome,
        expected: Outcome,
    ) -> Result<(Course, Outcome, Outcome), RestoreError> {
        let mut shortest = (course, found, expected);
        loop {
            let mut shorter_one = None;
            for shorter in shortest.0.shorter() {
                let expected = self.follow(records, &Course::unbroken(shorter.records))?;
                let found = self.follow(records, &shorter)?;
                if found != expected {
                    shorter_one = Some((shorter, found, expected));
                    break;
                }
            }
            match shorter_one {
                Some(shorter) => shortest = shorter,
                None => return Ok(shortest),
            }
        }
    }
}

fn push_each<I: Clone, U: Record>(running: &mut RunningOperator<I, U>, records: &[I]) -> Result<(), OperatorTestError> {
    records.iter().try_for_each(|record| running.push(record.clone()))
}

impl Course {
    fn unbroken(records: usize) -> Course {
        Course { records, first: 1, restores: Vec::new() }
    }

    fn draw(records: usize, check: RestoreCheck, random: &mut Random) -> Course {
        let subtasks = |random: &mut Random| 1 + random.below(check.most_subtasks.into()) as u32;
        let first = subtasks(random);
        let count = 1 + random.below(check.most_restores.into());
        let mut restores: Vec<(usize, u32)> =
            (0..count).map(|_| (random.below(records as u64 + 1) as usize, subtasks(random))).collect();
        restores.sort_unstable();
        Course { records, first, restores }
    }

    /// Courses that are a little shorter.
    fn shorter(&self) -> impl Iterator<Item = Course> + '_ {
        let without_restore = (0..self.restores.len()).map(|number| {
            let mut course = self.clone();
            course.restores.remove(number);
            course
        });
        let last = self.restores.last().map_or(0, |(position, _)| *position);
        let ends = [last + (self.records - last) / 2, self.records.saturating_sub(1)];
        let fewer_records = ends
            .into_iter()
            .filter(move |end| *end >= last && *end < self.records)
            .map(|end| Course { records: end, ..self.clone() });
        let earlier = (0..self.restores.len()).filter(|number| self.restores[*number].0 > 0).map(|number| {
            let mut course = self.clone();
            course.restores[number].0 -= 1;
            course.restores.sort_unstable();
            course
        });
        let narrower = (0..=self.restores.len()).filter_map(|number| {
            let mut course = self.clone();
            let subtasks = match number.checked_sub(1) {
                None => &mut course.first,
                Some(restore) => &mut course.restores[restore].1,
            };
            *subtasks = subtasks.checked_sub(1).filter(|fewer| *fewer > 0)?;
            Some(course)
        });
        without_restore.chain(fewer_records).chain(narrower).chain(earlier)
    }
}

impl fmt::Display for Course {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = if self.records == 1 { "record" } else { "records" };
        write!(formatter, "{} {records}", self.records)?;
        if self.restores.is_empty() {
            return write!(formatter, " in {}, without a restore", subtasks(self.first));
        }
        let mut before = self.first;
        for (position, after) in &self.restores {
            write!(formatter, "; restored before record {position}: from {} into {after}", subtasks(before))?;
            before = *after;
        }
        Ok(())
    }
}

fn subtasks(count: u32) -> String {
    if count == 1 { "1 subtask".to_owned() } else { format!("{count} subtasks") }
}

fn differences(found: &Outcome, expected: &Outcome) -> Vec<String> {
    let (state, other) = (&found.state.0, &expected.state.0);
    let shown = |content: Option<&Tree>| content.map_or("nothing".to_owned(), Tree::to_string);
    let mut told: Vec<String> = Vec::new();
    for entry in state.keys().chain(other.keys().filter(|entry| !state.contains_key(entry))) {
        let (found, expected) = (state.get(entry), other.get(entry));
        if found != expected {
            told.push(format!("{entry}: {} instead of {}", shown(found), shown(expected)));
        }
    }
    let (output, other) = (&found.output, &expected.output);
    let times = |count: usize| match count {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    };
    for place in output.keys().chain(other.keys().filter(|place| !output.contains_key(place))) {
        let count = |of: &BTreeMap<_, usize>| of.get(place).copied().unwrap_or(0);
        let (found, expected) = (count(output), count(other));
        if found != expected {
            let (side, record) = place;
            let output = if side.is_empty() { "output".to_owned() } else { format!("side output `{side}`") };
            told.push(format!("{output}: {record} comes out {} instead of {}", times(found), times(expected)));
        }
    }
    if let Some(more) = told.len().checked_sub(TOLD).filter(|more| *more > 0) {
        told.truncate(TOLD);
        told.push(format!("and {more} more differences"));
    }
    told
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "state `{}` of `{}`", self.state, self.uid)?;
        self.key.as_ref().map_or(Ok(()), |key| write!(formatter, ", key {key}"))
    }
}

/// One entry a line.
impl fmt::Display for Contents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (entry, content)) in self.0.iter().enumerate() {
            write!(formatter, "{}{entry}: {content}", if number == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
