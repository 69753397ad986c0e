//! Several rules as one text: one a line, or with `;` between them.

use std::fmt;
use std::str::FromStr;

use super::rule::{DiskRule, ParseDiskRuleError};

/// What goes wrong with a disk.
///
/// ```
/// use alluvium::testing::disk::{DiskPlan, SimulatedDisk};
///
/// let plan: DiskPlan = "disk[operation=rename,path=manifests/*,hit=2]=power-cut; disk[count=all]=slow:2ms".parse()?;
/// let disk = SimulatedDisk::new();
/// disk.arm(plan);
/// # Ok::<(), alluvium::testing::disk::ParseDiskRuleError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskPlan(pub Vec<DiskRule>);

impl IntoIterator for DiskPlan {
    type Item = DiskRule;
    type IntoIter = std::vec::IntoIter<DiskRule>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<DiskRule> for DiskPlan {
    fn from_iter<T: IntoIterator<Item = DiskRule>>(rules: T) -> DiskPlan {
        DiskPlan(rules.into_iter().collect())
    }
}

impl fmt::Display for DiskPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, rule) in self.0.iter().enumerate() {
            let between = if number > 0 { "; " } else { "" };
            write!(formatter, "{between}{rule}")?;
        }
        Ok(())
    }
}

impl FromStr for DiskPlan {
    type Err = ParseDiskRuleError;

    fn from_str(text: &str) -> Result<DiskPlan, ParseDiskRuleError> {
        let rules = text.split([';', '\n']).map(str::trim).filter(|rule| !rule.is_empty());
        rules.map(str::parse).collect()
    }
}
