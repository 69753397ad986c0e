//! A job on a disk that renames manifests and says that it failed: what became of them is unknown, and has to be read back.

use alluvium::ports::files::FileOperation;
use alluvium::testing::disk::{DiskFault, DiskRule, SimulatedDisk};
use alluvium::testing::simulation::{Boot, Next, Outside, Scenario, World};
use alluvium_actors::drive::supervisor::SupervisorSetup;

/// The scenario inside, on such a disk.
pub(super) struct Doubtful<S>(pub(super) S);

impl<S: Scenario> Scenario for Doubtful<S> {
    fn begin(&mut self, outside: &Outside) {
        self.0.begin(outside);
    }

    fn prepare(&mut self, disk: &SimulatedDisk) {
        self.0.prepare(disk);
        let rename = DiskRule::new(DiskFault::ErrorAfterwards).operation(FileOperation::Rename);
        disk.arm([rename.path("/store/manifests/*").probability(0.2).times(4)]);
    }

    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        self.0.boot(boot)
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.0.observe(world)
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        self.0.ended(world)
    }
}
