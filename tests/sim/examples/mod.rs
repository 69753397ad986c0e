//! The jobs of the examples, and of the recovery tests: the very functions that build them for their programs build them here, and run against every fault.
//!
//! What stands around a job is a model: a log service in virtual time, a board, tills that are polled beside the job, a database in memory that outlives
//! every process as a server elsewhere does. The guide to testing says what that leaves out.

mod connectors;
mod embed;
mod flights;
mod outliving;
mod program;
mod second_job;
mod weather;

use alluvium::Graph;
use alluvium::testing::catalogue::SimulatedCatalogue;
use alluvium::testing::simulation::{Boot, World};
use alluvium_actors::drive::supervisor::SupervisorSetup;

pub(crate) use self::connectors::Connectors;
pub(crate) use self::embed::{Digits, Sales};
pub(crate) use self::flights::Flights;
pub(crate) use self::second_job::SecondJob;
pub(crate) use self::weather::Weather;

use crate::chance;

/// How every example is run here: with options, users and a catalogue by chance.
#[derive(Debug, Default)]
struct Habits {
    catalogue: SimulatedCatalogue,
    promises: chance::Promises,
}

impl Habits {
    fn setup(&self, boot: &mut Boot<'_>, graph: &Graph) -> Result<SupervisorSetup, String> {
        chance::users(boot, &self.promises);
        let options = chance::options(boot);
        let catalogue = chance::catalogue(boot, &self.catalogue);
        boot.setup(graph, &options, catalogue.map(|catalogue| catalogue as _)).map_err(|error| error.to_string())
    }

    fn observe(&self, world: &World<'_>) -> Result<(), String> {
        self.promises.are_kept(world)
    }
}
