//! The walk over all sequences: level by level, each state once, shortest sequences first.
//!
//! A level is what so many events lead to. Its states are expanded by all events in
//! parallel and merged in order, so that a search gives the same result on every machine.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use haarb_model::Span;
use haarb_sim::act::NoAct;
use haarb_sim::options::Options;

use crate::Start;
use crate::alike::fingerprint;
use crate::events::{Alphabet, Event, events, time};
use crate::found::{Finding, Found, Level};
use crate::parallel::parallel;
use crate::residual::Case;
use crate::state::{Ran, State, Way};
use crate::watch::{Past, Watch};

/// What is to be searched.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The pair.
    pub options: Options,
    /// How many events at most.
    pub depth: usize,
    /// Which events.
    pub alphabet: Alphabet,
    /// Where sequences begin.
    pub starts: Vec<Start>,
    /// Waits between events besides "none" and "until all is settled".
    pub waits: Vec<Span>,
    /// A sequence begins with the first network; the second one is its mirror image.
    pub mirror: bool,
    /// No new level is begun after this long.
    pub at_most: Duration,
    /// Threads.
    pub jobs: usize,
}

/// Searches.
///
/// # Errors
/// A line of `events.rs` that is no act.
pub fn search(plan: &Plan) -> Result<Found, NoAct> {
    let alphabet = {
        let world = Start::Dark.world(&plan.options);
        events(&world, plan.alphabet)?
    };
    let mut walk = Walk {
        plan,
        alphabet,
        seen: HashSet::new(),
        mended: Mutex::new(HashSet::new()),
        found: Found::default(),
    };
    walk.found.events = walk.alphabet.len();
    walk.all();
    Ok(walk.found)
}

struct Walk<'a> {
    plan: &'a Plan,
    alphabet: Vec<Event>,
    seen: HashSet<u128>,
    /// Fingerprints of mended worlds that came right.
    mended: Mutex<HashSet<u128>>,
    found: Found,
}

/// How long after the mending operators look at it.
const MENDING: Span = Span::from_secs(3);

/// How many states are expanded together: bounds the memory.
const BATCH: usize = 64;

impl Walk<'_> {
    fn all(&mut self) {
        let began = Instant::now();
        let mut frontier = Vec::new();
        for start in &self.plan.starts {
            let lines = start.lines().iter().map(|l| (*l).to_owned()).collect();
            let state = State {
                world: start.world(&self.plan.options),
                watch: Watch::default(),
                way: Arc::new(Way {
                    before: None,
                    lines,
                }),
                apart: false,
                events: 0,
            };
            frontier.push(state);
        }
        let mut level = Level::default();
        let at = Instant::now();
        let states = self.admit(frontier.into_iter().map(State::printed).collect());
        level.states = states.len() as u64;
        let mut frontier = self.spread(states, &mut level, self.plan.depth > 0);
        level.took = at.elapsed();
        self.found.levels.push(level);
        for depth in 1..=self.plan.depth {
            if began.elapsed() > self.plan.at_most {
                break;
            }
            let at = Instant::now();
            let mut level = Level::default();
            let last = depth == self.plan.depth;
            let mut next = Vec::new();
            let mut parents = frontier.into_iter();
            loop {
                let batch: Vec<State> = parents.by_ref().take(BATCH).collect();
                if batch.is_empty() {
                    break;
                }
                let children = self.expand(&batch, &mut level);
                drop(batch);
                next.extend(self.spread(children, &mut level, !last));
            }
            frontier = next;
            level.took = at.elapsed();
            self.found.levels.push(level);
            self.found.depth = depth;
        }
    }

    /// Every event from every state, and no time after it.
    fn expand(&mut self, parents: &[State], level: &mut Level) -> Vec<State> {
        let this = &*self;
        let children = parallel(this.plan.jobs, parents, |parent| {
            this.alphabet
                .iter()
                .filter(|event| {
                    let mirrored = this.plan.mirror && !parent.apart && event.net == Some(1);
                    !mirrored && event.can(&parent.world)
                })
                .map(|event| parent.happen(event).printed())
                .collect::<Vec<Ran>>()
        });
        let children: Vec<Ran> = children.into_iter().flatten().collect();
        level.tried += children.len() as u64;
        let new = self.admit(children);
        level.states += new.len() as u64;
        new
    }

    /// From states at which no time has passed since the last event: the same states, and
    /// what they become after each wait. `keep`: whether they are needed for another level.
    fn spread(&mut self, states: Vec<State>, level: &mut Level, keep: bool) -> Vec<State> {
        let this = &*self;
        let settled = parallel(this.plan.jobs, &states, |state| state.settle().printed());
        // On the last level the middle of a detection is only passed through.
        let waits: &[Span] = if keep { &this.plan.waits } else { &[] };
        let middle = parallel(this.plan.jobs, &states, |state| {
            waits
                .iter()
                .map(|wait| state.wait(*wait).printed())
                .collect::<Vec<Ran>>()
        });
        let mut later = self.admit(settled);
        later.extend(self.admit(middle.into_iter().flatten().collect()));
        level.states += later.len() as u64;
        let this = &*self;
        // What has just happened is mended at once where that is cheap: not on the last level.
        let now: &[State] = if keep { &states } else { &[] };
        let mended: Vec<&State> = now.iter().chain(&later).collect();
        let ends = parallel(this.plan.jobs, &mended, |state| this.mend(state));
        level.mended += ends.len() as u64;
        for ran in ends {
            self.note(&ran);
        }
        if !keep {
            return Vec::new();
        }
        let mut all = states;
        all.extend(later);
        all
    }

    /// Everything is mended: whoever can serve must serve.
    fn mend(&self, state: &State) -> Ran {
        let mut state = state.copy(vec!["mend".to_owned(), format!("run {}", time(MENDING))]);
        state.world.mend();
        state.watch.run(&mut state.world, MENDING);
        if state.watch.wrong.is_some() {
            return state.printed();
        }
        state.world.clear();
        for node in &state.world.segment.nodes {
            let lines = vec![
                format!("maintenance {} off", node.name),
                format!("clear sip on {}", node.name),
            ];
            state.way = state.way.then(lines);
        }
        let began = state.world.now;
        let end = began + self.bound();
        let mut prints = Vec::new();
        while state.watch.wrong.is_none() {
            state.watch.run(&mut state.world, Span::from_secs(1));
            let print = fingerprint(&state.world, "");
            prints.push(print);
            let mut checks = state.world.checks.clone();
            checks.at_end(&state.world);
            if self.came_right(print) || !checks.failed() {
                break;
            }
            if state.world.now >= end {
                let what = checks.failure().unwrap_or("not right at the end");
                state.watch.wrong = Some(format!("after everything was mended: {what}"));
            }
        }
        if state.watch.wrong.is_none() {
            let mut mended = self.mended.lock().unwrap_or_else(PoisonError::into_inner);
            mended.extend(prints);
        }
        let line = format!("run {}", time(state.world.now.since(began)));
        state.way = state.way.then(vec![line]);
        state.printed()
    }

    /// A world that was mended and looked like this came right before.
    fn came_right(&self, print: u128) -> bool {
        let mended = self.mended.lock().unwrap_or_else(PoisonError::into_inner);
        mended.contains(&print)
    }

    /// How long a mended pair may take.
    fn bound(&self) -> Span {
        let timing = self.plan.options.timing;
        timing.cold_start
            + timing.rearm_alone
            + timing.link_hold.times(3)
            + timing.claim_after.times(6)
            + timing.drain_max.times(2)
            + Span::from_secs(10)
    }

    /// Keeps the states that have not been seen; notes what happened on the way to all.
    fn admit(&mut self, ran: Vec<Ran>) -> Vec<State> {
        let mut new = Vec::new();
        for ran in ran {
            self.note(&ran);
            if ran.state.watch.wrong.is_none() && self.seen.insert(ran.print) {
                new.push(ran.state);
            }
        }
        new
    }

    fn note(&mut self, ran: &Ran) {
        let state = &ran.state;
        for (rule, count) in &state.world.checks.fired {
            *self.found.fired.entry(rule).or_default() += count;
        }
        let mut seen = |case: Case, past: Option<&Past>| {
            let entry = self.found.cases.entry(case).or_default();
            if let Some(past) = past {
                entry.count += 1;
                if let Some(after) = past.after_contact {
                    entry.met += 1;
                    entry.after_contact = entry.after_contact.max(after);
                }
            }
            if entry
                .shortest
                .as_ref()
                .is_none_or(|(n, _)| state.events < *n)
            {
                entry.shortest = Some((state.events, state.way.lines()));
            }
        };
        if let Some(case) = state.watch.dual() {
            seen(case, None);
        }
        for past in &ran.past {
            seen(past.case, Some(past));
        }
        if let Some(what) = &state.watch.wrong {
            let finding = self
                .found
                .findings
                .entry(what.clone())
                .or_insert_with(|| Finding {
                    what: what.clone(),
                    events: state.events,
                    lines: state.way.lines(),
                    count: 0,
                });
            finding.count += 1;
        }
    }
}
