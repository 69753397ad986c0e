//! The command that repeats a run: of tests of jobs, and of explorations.

use std::thread;

use super::simulation::Simulation;

/// The name of the test function: that of its thread. The main thread, and those that a test starts without a name, have none.
pub(crate) fn name_of_test() -> Option<String> {
    thread::current().name().filter(|name| *name != "main").map(ToOwned::to_owned)
}

/// The command that makes this run, and no other test. Without a test's name it says `otherwise` in its place.
pub(crate) fn repeat_command(simulation: &Simulation, otherwise: &str) -> String {
    // As a shell reads it: a pattern for paths may hold a quote.
    let quoted = simulation.to_string().replace('\'', r"'\''");
    let test = name_of_test().map_or_else(|| otherwise.to_owned(), |name| format!("{name} -- --exact"));
    format!("ALLUVIUM_SIMULATION_SEED='{quoted}' cargo test {test}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_this_test_alone_and_quotes_the_run() {
        let simulation: Simulation = "7/exactly/disk[path=it's*]=error".parse().unwrap();
        assert_eq!(
            repeat_command(&simulation, "(some test)"),
            r"ALLUVIUM_SIMULATION_SEED='7/exactly/disk[path=it'\''s*]=error' cargo test testing::repeat::tests::the_command_names_this_test_alone_and_quotes_the_run -- --exact"
        );
        let elsewhere = thread::spawn(move || repeat_command(&Simulation::new(7), "(some test)")).join().unwrap();
        assert_eq!(elsewhere, "ALLUVIUM_SIMULATION_SEED='7' cargo test (some test)");
    }
}
