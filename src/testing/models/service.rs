//! An outside service that user code and connectors ask, and that fails as services do.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use alluvium_actors::ids::Moment;

use crate::fault::Random;
use crate::record::Record;
use crate::testing::print::short_canonical;
use crate::testing::simulation::Outside;

/// A thousand thousandths.
const ALL: u64 = 1_000;

/// A service for tests. Answers take virtual time; some requests are refused, some are lost on the way, and of some the *answer* is lost although the effect was done: the
/// asker cannot tell the last two apart. It remembers every effect, so that one that was done twice can be seen. What happens to a request, the seed decides.
///
/// Where blocking is allowed (a committer, work given to `blocking`, a closure of an operator), [`FlakyService::call`] answers at once: the time that passes is that of
/// the call around it. A reader or a writer, which must not block, uses [`FlakyService::send`].
///
/// ```
/// use alluvium::testing::models::FlakyService;
/// use alluvium::testing::simulation::Outside;
///
/// let payments = FlakyService::new(&Outside::detached(1), "payments", |order: &u64| order * 2);
/// assert_eq!(payments.call(21), Ok(42));
/// assert_eq!(payments.effects().len(), 1);
/// ```
pub struct FlakyService<Q, A> {
    inner: Arc<Inner<Q, A>>,
}

struct Inner<Q, A> {
    name: String,
    outside: Outside,
    state: Mutex<State<Q, A>>,
}

struct State<Q, A> {
    handler: Box<dyn FnMut(&Q) -> A + Send>,
    /// The shortest and the longest time that an answer takes.
    latency: (Duration, Duration),
    /// How long an asker waits for an answer that does not come.
    timeout: Duration,
    rates: Rates,
    random: Random,
    next: u64,
    /// Requests that have not arrived yet, and whether the answer will.
    under_way: BTreeMap<(Moment, u64), (Q, bool)>,
    /// Answers that nobody has taken.
    answers: BTreeMap<u64, A>,
    effects: Vec<ServiceEffect<Q>>,
}

/// What becomes of a thousand requests; of the rest the effect is done and the answer comes. Together no more than a thousand.
#[derive(Clone, Copy, Default)]
struct Rates {
    refused: u64,
    lost_requests: u64,
    lost_answers: u64,
}

/// An effect that a service carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEffect<Q> {
    /// When.
    pub at: Moment,
    /// What it was asked for.
    pub request: Q,
    /// Whether the asker was answered.
    pub answered: bool,
}

/// What the asker sees of a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Nothing was done.
    #[error("`{service}` refuses the request: try again")]
    Refused {
        /// The service.
        service: String,
    },
    /// No answer came: the effect was done, or it was not.
    #[error("no answer from `{service}` within {timeout:?}: it may have done what it was asked for, or not")]
    NoAnswer {
        /// The service.
        service: String,
        /// How long was waited.
        timeout: Duration,
    },
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused,
    RequestLost,
    AnswerLost,
}

impl<Q: Record, A: Send + 'static> FlakyService<Q, A> {
    /// A service that never fails and answers within 1 to 5 milliseconds, until it is told otherwise. `handler` carries out the effect of a request.
    #[must_use]
    pub fn new(outside: &Outside, name: &str, handler: impl FnMut(&Q) -> A + Send + 'static) -> FlakyService<Q, A> {
        let state = State {
            handler: Box::new(handler),
            latency: (Duration::from_millis(1), Duration::from_millis(5)),
            timeout: Duration::from_secs(1),
            rates: Rates::default(),
            random: Random::new(outside.random()),
            next: 0,
            under_way: BTreeMap::new(),
            answers: BTreeMap::new(),
            effects: Vec::new(),
        };
        let inner = Inner { name: name.to_owned(), outside: outside.clone(), state: Mutex::new(state) };
        FlakyService { inner: Arc::new(inner) }
    }

    /// An answer takes between these two, by chance.
    #[must_use]
    pub fn latency(self, least: Duration, most: Duration) -> FlakyService<Q, A> {
        self.state().latency = (least, most.max(least));
        self
    }

    /// How long an asker waits for an answer that does not come; 1 s if not given.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> FlakyService<Q, A> {
        self.state().timeout = timeout;
        self
    }

    /// So many of a thousand requests are refused.
    ///
    /// # Panics
    /// When more than a thousand of a thousand are refused or lost.
    #[must_use]
    pub fn refuses(self, of_a_thousand: u64) -> FlakyService<Q, A> {
        self.rated(|rates| rates.refused = of_a_thousand)
    }

    /// So many of a thousand requests never arrive.
    ///
    /// # Panics
    /// When more than a thousand of a thousand are refused or lost.
    #[must_use]
    pub fn loses_requests(self, of_a_thousand: u64) -> FlakyService<Q, A> {
        self.rated(|rates| rates.lost_requests = of_a_thousand)
    }

    /// Of so many of a thousand requests the effect is done and the answer does not arrive.
    ///
    /// # Panics
    /// When more than a thousand of a thousand are refused or lost.
    #[must_use]
    pub fn loses_answers(self, of_a_thousand: u64) -> FlakyService<Q, A> {
        self.rated(|rates| rates.lost_answers = of_a_thousand)
    }

    fn rated(self, change: impl FnOnce(&mut Rates)) -> FlakyService<Q, A> {
        let mut rates = self.state().rates;
        change(&mut rates);
        let Rates { refused, lost_requests, lost_answers } = rates;
        let all = refused.saturating_add(lost_requests).saturating_add(lost_answers);
        assert!(
            all <= ALL,
            "of a thousand requests `{}` refuses {refused}, loses {lost_requests} and loses the answers of {lost_answers}: that is {all}, give {ALL} at most",
            self.inner.name
        );
        self.state().rates = rates;
        self
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Asks, where blocking is allowed.
    ///
    /// # Errors
    /// When the request is refused, or no answer comes.
    pub fn call(&self, request: Q) -> Result<A, ServiceError> {
        let mut state = self.settled();
        let fate = state.draw();
        match fate {
            Fate::Answered => Ok(self.carry_out(&mut state, self.inner.outside.now(), request, true)),
            Fate::Refused => {
                self.tell(format_args!("refuses {}", short_canonical(&request)));
                Err(self.refused())
            }
            Fate::RequestLost | Fate::AnswerLost => {
                let timeout = state.timeout;
                if fate == Fate::AnswerLost {
                    self.carry_out(&mut state, self.inner.outside.now(), request, false);
                }
                Err(self.no_answer(timeout))
            }
        }
    }

    /// Asks, and gives the answer later. The request is under way from now on, whatever becomes of who asked.
    #[must_use = "the answer has to be polled for"]
    pub fn send(&self, request: Q) -> Call<Q, A> {
        let mut state = self.settled();
        let now = self.inner.outside.now();
        let (least, most) = state.latency;
        let span = u64::try_from((most - least).as_nanos()).unwrap_or(u64::MAX);
        let latency = least + Duration::from_nanos(state.random.below(span.saturating_add(1)));
        let arrives = now + latency / 2;
        let fate = state.draw();
        let number = state.next;
        state.next += 1;
        match fate {
            Fate::Answered | Fate::AnswerLost => {
                state.under_way.insert((arrives, number), (request, fate == Fate::Answered));
            }
            Fate::Refused => self.tell(format_args!("will refuse {}", short_canonical(&request))),
            Fate::RequestLost => self.tell(format_args!("will not hear of {}", short_canonical(&request))),
        }
        let wait = if matches!(fate, Fate::Answered | Fate::Refused) { latency } else { state.timeout };
        Call { service: self.clone(), number, due: now + wait, fate }
    }

    /// Every effect that was done so far, in this order.
    #[must_use]
    pub fn effects(&self) -> Vec<ServiceEffect<Q>> {
        self.effects_from(0)
    }

    /// The same from the effect of this number on; the first one has number 0.
    #[must_use]
    pub fn effects_from(&self, first: usize) -> Vec<ServiceEffect<Q>> {
        self.settled().effects.get(first..).unwrap_or_default().to_vec()
    }

    fn carry_out(&self, state: &mut State<Q, A>, at: Moment, request: Q, answered: bool) -> A {
        let lost = if answered { "" } else { ", and the answer is lost" };
        self.tell(format_args!("carries out {}{lost}", short_canonical(&request)));
        let answer = (state.handler)(&request);
        state.effects.push(ServiceEffect { at, request, answered });
        answer
    }

    /// The state after everything that has arrived by now.
    fn settled(&self) -> MutexGuard<'_, State<Q, A>> {
        let mut state = self.state();
        let now = self.inner.outside.now();
        while let Some(entry) = state.under_way.first_entry() {
            let (arrives, number) = *entry.key();
            if arrives > now {
                break;
            }
            let (request, answered) = entry.remove();
            let answer = self.carry_out(&mut state, arrives, request, answered);
            if answered {
                state.answers.insert(number, answer);
            }
        }
        state
    }

    fn refused(&self) -> ServiceError {
        ServiceError::Refused { service: self.inner.name.clone() }
    }

    fn no_answer(&self, timeout: Duration) -> ServiceError {
        ServiceError::NoAnswer { service: self.inner.name.clone(), timeout }
    }

    fn tell(&self, what: fmt::Arguments<'_>) {
        self.inner.outside.tell(&self.inner.name, what);
    }
}

impl<Q, A> FlakyService<Q, A> {
    fn state(&self) -> MutexGuard<'_, State<Q, A>> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q, A> State<Q, A> {
    fn draw(&mut self) -> Fate {
        let Rates { refused, lost_requests, lost_answers } = self.rates;
        let drawn = self.random.below(ALL);
        if drawn < refused {
            Fate::Refused
        } else if drawn < refused + lost_requests {
            Fate::RequestLost
        } else if drawn < refused + lost_requests + lost_answers {
            Fate::AnswerLost
        } else {
            Fate::Answered
        }
    }
}

impl<Q, A> Clone for FlakyService<Q, A> {
    fn clone(&self) -> FlakyService<Q, A> {
        FlakyService { inner: Arc::clone(&self.inner) }
    }
}

impl<Q, A> fmt::Debug for FlakyService<Q, A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FlakyService({}, {} effects)", self.inner.name, self.state().effects.len())
    }
}

/// A request that is under way. A reader or a writer that finds it pending asks its context for a wake-up at [`Call::due`].
pub struct Call<Q, A> {
    service: FlakyService<Q, A>,
    number: u64,
    due: Moment,
    fate: Fate,
}

impl<Q: Record, A: Send + 'static> Call<Q, A> {
    /// When the answer, or the end of the wait for it, comes.
    #[must_use]
    pub fn due(&self) -> Moment {
        self.due
    }

    /// The answer, if it has come. To be polled no more once it is ready.
    pub fn poll(&mut self) -> Poll<Result<A, ServiceError>> {
        let mut state = self.service.settled();
        if self.service.inner.outside.now() < self.due {
            return Poll::Pending;
        }
        let answer = state.answers.remove(&self.number);
        let timeout = state.timeout;
        Poll::Ready(match (self.fate, answer) {
            (Fate::Refused, _) => Err(self.service.refused()),
            (Fate::Answered, Some(answer)) => Ok(answer),
            _ => Err(self.service.no_answer(timeout)),
        })
    }
}

impl<Q, A> fmt::Debug for Call<Q, A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Call({}, due {:?})", self.number, self.due)
    }
}
