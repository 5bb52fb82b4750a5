//! The walk over all sequences: level by level, each state once, shortest sequences first.
//!
//! A level is what so many events lead to. Its states are expanded by all events in
//! parallel and merged in order, so that a search gives the same result on every machine.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use haarb_model::{Mode, Span};
use haarb_sim::options::Options;
use haarb_sim::world::World;

use crate::Start;
use crate::alike::fingerprint;
use crate::events::{Alphabet, Event, Step, events, time};
use crate::residual::Case;
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

/// The way to a state.
#[derive(Debug)]
pub struct Way {
    before: Option<Arc<Self>>,
    lines: Vec<String>,
}

impl Way {
    /// The lines of a scenario, and how many events they are.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.before.as_ref().map_or(Vec::new(), |way| way.lines());
        lines.extend(self.lines.iter().cloned());
        lines
    }
}

struct State {
    world: World,
    watch: Watch,
    way: Arc<Way>,
    /// Something has told the networks apart.
    apart: bool,
    events: usize,
}

/// Something wrong, and the shortest way to it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What is wrong.
    pub what: String,
    /// How many events lead there.
    pub events: usize,
    /// The lines of a scenario that lead there.
    pub lines: Vec<String>,
    /// How many ways were found.
    pub count: u64,
}

/// What was seen of a residual case.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How often two servers offered.
    pub count: u64,
    /// The shortest way to it: number of events, lines.
    pub shortest: Option<(usize, Vec<String>)>,
    /// How often the servers came into contact while both offered.
    pub met: u64,
    /// How long both still offered after contact, at most.
    pub after_contact: Span,
}

/// What one level gave.
#[derive(Clone, Debug, Default)]
pub struct Level {
    /// Sequences tried: a state and an event.
    pub tried: u64,
    /// States that had not been seen before.
    pub states: u64,
    /// States from which all was mended.
    pub mended: u64,
    /// How long it took.
    pub took: Duration,
}

/// What a search gave.
#[derive(Clone, Debug, Default)]
pub struct Result {
    /// Per number of events.
    pub levels: Vec<Level>,
    /// Residual cases.
    pub cases: BTreeMap<Case, Seen>,
    /// What is wrong, by what it is.
    pub findings: BTreeMap<String, Finding>,
    /// How many events there are.
    pub events: usize,
    /// The depth that was searched whole.
    pub depth: usize,
    /// Which rules led to a change, and how often.
    pub fired: BTreeMap<&'static str, u64>,
}

impl Result {
    /// How many different states.
    #[must_use]
    pub fn states(&self) -> u64 {
        self.levels.iter().map(|level| level.states).sum()
    }

    /// How many sequences: a state and an event.
    #[must_use]
    pub fn sequences(&self) -> u64 {
        self.levels.iter().map(|level| level.tried).sum()
    }
}

/// Searches.
///
/// # Errors
/// A line of `events.rs` that is no act.
pub fn search(plan: &Plan) -> std::result::Result<Result, haarb_sim::act::NoAct> {
    let alphabet = {
        let world = Start::Dark.world(&plan.options);
        events(&world, plan.alphabet)?
    };
    let mut walk = Walk {
        plan,
        alphabet,
        seen: HashSet::new(),
        mended: Mutex::new(HashSet::new()),
        result: Result::default(),
    };
    walk.result.events = walk.alphabet.len();
    walk.all();
    Ok(walk.result)
}

struct Walk<'a> {
    plan: &'a Plan,
    alphabet: Vec<Event>,
    seen: HashSet<u128>,
    /// Fingerprints of mended worlds that came right.
    mended: Mutex<HashSet<u128>>,
    result: Result,
}

/// What running a state for a while gave.
struct Ran {
    state: State,
    print: u128,
    past: Vec<Past>,
}

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
        let states = self.admit(frontier.into_iter().map(with_print).collect());
        level.states = states.len() as u64;
        let mut frontier = self.spread(states, &mut level, self.plan.depth > 0);
        level.took = at.elapsed();
        self.result.levels.push(level);
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
            self.result.levels.push(level);
            self.result.depth = depth;
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
                .map(|event| with_print(happen(parent, event)))
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
        let settled = parallel(this.plan.jobs, &states, |state| {
            with_print(settle(copy(state, Vec::new())))
        });
        // On the last level the middle of a detection is only passed through.
        let waits: &[Span] = if keep { &this.plan.waits } else { &[] };
        let middle = parallel(this.plan.jobs, &states, |state| {
            let wait = |wait: &Span| {
                let mut later = copy(state, vec![format!("run {}", time(*wait))]);
                later.watch.run(&mut later.world, *wait);
                bound_sockets(&mut later.world);
                with_print(later)
            };
            waits.iter().map(wait).collect::<Vec<Ran>>()
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
        let mut state = copy(state, vec!["mend".to_owned()]);
        if state.watch.wrong.is_some() {
            return with_print(state);
        }
        state.world.mend();
        let timing = self.plan.options.timing;
        state.watch.run(&mut state.world, Span::from_secs(3));
        state.world.clear();
        let bound = timing.cold_start
            + timing.rearm_alone
            + timing.link_hold.times(3)
            + timing.claim_after.times(6)
            + timing.drain_max.times(2)
            + Span::from_secs(10);
        let end = state.world.now + bound;
        let mut prints = Vec::new();
        loop {
            state.watch.run(&mut state.world, Span::from_secs(1));
            if state.watch.wrong.is_some() {
                break;
            }
            let print = fingerprint(&state.world, "");
            let known = {
                let mended = self.mended.lock().unwrap_or_else(PoisonError::into_inner);
                mended.contains(&print)
            };
            prints.push(print);
            let mut checks = state.world.checks.clone();
            checks.at_end(&state.world);
            if known || !checks.failed() {
                let mut mended = self.mended.lock().unwrap_or_else(PoisonError::into_inner);
                mended.extend(prints);
                break;
            }
            if state.world.now >= end {
                let what = checks.failure().unwrap_or("not right at the end");
                state.watch.wrong = Some(format!("after everything was mended: {what}"));
                break;
            }
        }
        with_print(state)
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
            *self.result.fired.entry(rule).or_default() += count;
        }
        let mut seen = |case: Case, past: Option<&Past>| {
            let entry = self.result.cases.entry(case).or_default();
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
                .result
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

fn with_print(mut state: State) -> Ran {
    state.world.trace.clear();
    let past = std::mem::take(&mut state.watch.past);
    let extra = format!("{:?}", state.watch.dual());
    Ran {
        print: fingerprint(&state.world, &extra),
        past,
        state,
    }
}

fn copy(state: &State, lines: Vec<String>) -> State {
    let mut world = state.world.clone();
    world.checks.fired.clear();
    State {
        world,
        watch: state.watch.clone(),
        way: if lines.is_empty() {
            Arc::clone(&state.way)
        } else {
            Arc::new(Way {
                before: Some(Arc::clone(&state.way)),
                lines,
            })
        },
        apart: state.apart,
        events: state.events,
    }
}

/// An event happens to a state.
fn happen(parent: &State, event: &Event) -> State {
    let mut state = copy(parent, event.lines.clone());
    state.events += 1;
    state.apart |= event.net.is_some();
    if event.forces {
        state.watch.force(state.world.now);
    }
    for step in &event.steps {
        match step {
            Step::Do(act) => {
                state.world.act(act);
                state.watch.look(&state.world);
            }
            Step::Run(span) => {
                state.watch.run(&mut state.world, *span);
                bound_sockets(&mut state.world);
            }
        }
    }
    state
}

/// Runs until nothing has changed for longer than every wait, or says that it never settles.
fn settle(mut state: State) -> State {
    const SLICE: Span = Span::from_millis(250);
    const NEVER: Span = Span::from_secs(60);
    let began = state.world.now;
    let quiet = state.world.segment.timing.cold_start + Span::from_millis(250);
    let mut last = summary(&state.world);
    let mut since = began;
    while state.watch.wrong.is_none() {
        state.watch.run(&mut state.world, SLICE);
        bound_sockets(&mut state.world);
        let now = summary(&state.world);
        if now != last {
            last = now;
            since = state.world.now;
        }
        if state.world.now.since(since) >= quiet {
            break;
        }
        if state.world.now.since(began) >= NEVER {
            state.watch.wrong = Some(format!("nothing has settled after {NEVER}"));
        }
    }
    let line = format!("run {}", time(state.world.now.since(began)));
    state.way = Arc::new(Way {
        before: Some(Arc::clone(&state.way)),
        lines: vec![line],
    });
    state
}

/// What an operator would see of a world.
fn summary(world: &World) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for server in &world.servers {
        let _ = write!(
            text,
            "{}{:?}{:?};",
            server.holds(0, world.now),
            server.running,
            server.connected
        );
        let Some(core) = &server.core else { continue };
        let reserve = core.reserves().next();
        let _ = write!(
            text,
            "{:?}{:?}{:?}{:?}",
            core.mode().mode == Mode::Automatic,
            core.mode().mode,
            reserve.map(|r| (r.role, r.epoch(), r.obstacle.clone(), r.facts)),
            core.view().usable(),
        );
        for alarm in core.alarms() {
            let _ = write!(text, "{}", alarm.rule);
        }
    }
    text
}

/// A socket holds so many packets; what comes later is lost.
fn bound_sockets(world: &mut World) {
    use haarb_sim::world::Event as Happening;
    const SOCKET: usize = 200;
    for server in &mut world.servers {
        let mut packets = 0;
        server.deferred.retain(|event| {
            let packet = matches!(
                event,
                Happening::Reply { .. }
                    | Happening::SwitchReply { .. }
                    | Happening::Datagram { .. }
            );
            packets += usize::from(packet);
            !packet || packets <= SOCKET
        });
    }
}

/// Applies a function to all items with several threads; results are in the items' order.
fn parallel<T: Sync, R: Send>(jobs: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(i) else { break };
                    let result = work(item);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((i, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}
