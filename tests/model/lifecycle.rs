//! The life of a job and of its subtasks: legal steps only.

use alluvium_actors::ids::Attempt;
use alluvium_actors::protocol::lifecycle::{IllegalTransition, Job, JobState, SubtaskState};

use crate::coordinator::{LEFT, RIGHT};
use crate::explore::{AtRest, Bounds, explore};

fn restored() -> Job {
    let mut job = Job::new();
    job.restore(Attempt(1), [LEFT, RIGHT]).unwrap();
    for subtask in [LEFT, RIGHT] {
        for state in [SubtaskState::Restoring, SubtaskState::Restored] {
            job.subtask_becomes(Attempt(1), subtask, state).unwrap();
        }
    }
    job
}

fn running() -> Job {
    let mut job = restored();
    job.become_state(JobState::Running).unwrap();
    job
}

fn end_all(job: &mut Job) {
    for subtask in [LEFT, RIGHT] {
        job.subtask_becomes(job.attempt(), subtask, SubtaskState::Cancelling).unwrap();
        job.subtask_becomes(job.attempt(), subtask, SubtaskState::Ended).unwrap();
    }
}

#[test]
fn a_job_that_is_not_disturbed_goes_from_created_to_finished() {
    let mut job = running();
    for subtask in [LEFT, RIGHT] {
        assert_eq!(job.subtask(subtask), Some(SubtaskState::Running), "a subtask runs because the job does");
        job.subtask_becomes(Attempt(1), subtask, SubtaskState::EndOfData).unwrap();
        job.subtask_becomes(Attempt(1), subtask, SubtaskState::Ended).unwrap();
    }
    job.become_state(JobState::Finished).unwrap();
    assert!(job.state().is_terminal());
}

#[test]
fn an_illegal_step_names_both_states_and_changes_nothing() {
    let mut job = running();
    let error = job.become_state(JobState::Stopped).unwrap_err();
    assert_eq!(error.to_string(), "a job that is Running cannot become Stopped");
    assert_eq!(job, running());
    let error = job.subtask_becomes(Attempt(1), LEFT, SubtaskState::Restored).unwrap_err();
    assert_eq!(error.to_string(), "subtask 0[0] is Running and cannot become Restored");
    assert_eq!(job, running());
}

#[test]
fn a_job_runs_only_when_every_subtask_is_restored() {
    let mut job = Job::new();
    job.restore(Attempt(1), [LEFT, RIGHT]).unwrap();
    job.subtask_becomes(Attempt(1), LEFT, SubtaskState::Restoring).unwrap();
    job.subtask_becomes(Attempt(1), LEFT, SubtaskState::Restored).unwrap();
    let error = job.become_state(JobState::Running).unwrap_err();
    assert_eq!(error.to_string(), "a job that is Restoring cannot become Running while subtask 0[1] is Created");
    let alone = job.subtask_becomes(Attempt(1), LEFT, SubtaskState::Running).unwrap_err();
    assert!(matches!(alone, IllegalTransition::Subtask { .. }), "no subtask runs before the others");
}

#[test]
fn a_restore_begins_only_after_every_subtask_of_the_old_attempt_is_gone() {
    let mut job = running();
    job.subtask_becomes(Attempt(1), LEFT, SubtaskState::Failed).unwrap();
    job.become_state(JobState::Restarting).unwrap();
    job.subtask_becomes(Attempt(1), RIGHT, SubtaskState::Cancelling).unwrap();
    let error = job.restore(Attempt(2), [LEFT, RIGHT]).unwrap_err();
    assert_eq!(error.to_string(), "a job that is Restarting cannot become Restoring while subtask 0[1] is Cancelling");
    job.subtask_becomes(Attempt(1), RIGHT, SubtaskState::Ended).unwrap();
    let again = IllegalTransition::Attempt { attempt: Attempt(1), current: Attempt(1) };
    assert_eq!(job.restore(Attempt(1), [LEFT]), Err(again));
    job.restore(Attempt(2), [LEFT, RIGHT]).unwrap();
    assert_eq!(job.subtask(LEFT), Some(SubtaskState::Created));
}

#[test]
fn a_word_of_another_attempt_changes_no_subtask() {
    let mut job = running();
    let error = job.subtask_becomes(Attempt(2), LEFT, SubtaskState::Failed).unwrap_err();
    let expected = IllegalTransition::Stranger { subtask: LEFT, attempt: Attempt(2), current: Attempt(1) };
    assert_eq!(error, expected);
    assert_eq!(job.subtask(LEFT), Some(SubtaskState::Running));
}

#[test]
fn a_stop_that_is_aborted_leads_back_to_running_and_one_that_succeeds_to_stopped() {
    let mut job = running();
    job.become_state(JobState::Stopping).unwrap();
    job.become_state(JobState::Running).unwrap();
    job.become_state(JobState::Stopping).unwrap();
    let error = job.become_state(JobState::Stopped).unwrap_err();
    assert!(matches!(error, IllegalTransition::HeldUp { .. }), "its subtasks are there: {error}");
    for subtask in [LEFT, RIGHT] {
        job.subtask_becomes(Attempt(1), subtask, SubtaskState::Ended).unwrap();
    }
    job.become_state(JobState::Stopped).unwrap();
}

#[test]
fn a_failure_while_stopping_restarts_and_a_cancel_wins_over_a_restart() {
    let mut job = running();
    job.become_state(JobState::Stopping).unwrap();
    job.become_state(JobState::Restarting).unwrap();
    job.become_state(JobState::Cancelling).unwrap();
    assert!(job.become_state(JobState::Restarting).is_err());
    end_all(&mut job);
    assert!(job.restore(Attempt(2), [LEFT]).is_err());
    job.become_state(JobState::Cancelled).unwrap();
}

#[test]
fn a_job_fails_over_a_subtask_that_does_not_end_but_is_not_cancelled_over_it() {
    let mut job = running();
    job.become_state(JobState::Cancelling).unwrap();
    assert!(job.become_state(JobState::Cancelled).is_err());
    job.become_state(JobState::Failing).unwrap();
    job.become_state(JobState::Failed).unwrap();
}

#[test]
fn exactly_the_ends_have_nothing_after_them_and_each_of_them_can_be_reached() {
    let ends: Vec<JobState> = JobState::ALL.into_iter().filter(|state| state.is_terminal()).collect();
    assert_eq!(ends, [JobState::Finished, JobState::Stopped, JobState::Cancelled, JobState::Failed]);
    let ends: Vec<SubtaskState> = SubtaskState::ALL.into_iter().filter(|state| state.is_terminal()).collect();
    assert_eq!(ends, [SubtaskState::Ended, SubtaskState::Failed]);
    for state in JobState::ALL.into_iter().filter(|state| *state != JobState::Created) {
        assert!(JobState::ALL.iter().any(|before| before.next().contains(&state)), "nothing leads to {state}");
    }
    for state in JobState::ALL.into_iter().filter(|state| !state.is_terminal()) {
        assert!(state.next().contains(&JobState::Failing) || state == JobState::Failing, "{state} cannot fail");
    }
}

/// Every step that is tried in every state: what is refused changes nothing, and what is taken keeps the rules.
#[test]
fn walk_every_step_in_every_state_is_either_legal_or_refused_without_a_trace() {
    type Step = (String, Job);
    let steps = |job: &Job, successors: &mut Vec<Step>| {
        let mut tried = |name: String, take: &dyn Fn(&mut Job) -> Result<(), IllegalTransition>| {
            let mut after = job.clone();
            match take(&mut after) {
                Ok(()) => successors.push((name, after)),
                Err(_) => assert_eq!(after, *job, "{name} was refused and left a trace"),
            }
        };
        for state in JobState::ALL {
            tried(format!("job: {state}"), &|after| after.become_state(state));
        }
        for attempt in [1, 2] {
            tried(format!("restore {attempt}"), &|after| after.restore(Attempt(attempt), [LEFT, RIGHT]));
            for subtask in [LEFT, RIGHT] {
                for state in SubtaskState::ALL {
                    tried(format!("{subtask} of {attempt}: {state}"), &|after| {
                        after.subtask_becomes(Attempt(attempt), subtask, state)
                    });
                }
            }
        }
    };
    let bounds = Bounds { states: 20_000, depth: 60 };
    let found = explore("lifecycle", Job::new(), bounds, steps, |job, at_rest| {
        let states: Vec<SubtaskState> = job.subtasks().map(|(_, state)| state).collect();
        let before_the_run = |state: &SubtaskState| {
            matches!(state, SubtaskState::Created | SubtaskState::Restoring | SubtaskState::Restored)
        };
        if job.state() == JobState::Running && states.iter().any(before_the_run) {
            return Err(format!("it runs with {states:?}"));
        }
        let ended = matches!(job.state(), JobState::Finished | JobState::Stopped | JobState::Cancelled);
        if ended && !states.iter().all(|state| state.is_terminal()) {
            return Err(format!("{} with {states:?}", job.state()));
        }
        if at_rest == AtRest(true) && !job.state().is_terminal() {
            return Err(format!("stuck in {}", job.state()));
        }
        Ok(())
    });
    found.assert_holds_everywhere();
}
