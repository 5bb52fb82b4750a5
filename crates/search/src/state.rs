//! One state of the search: a world, the eyes on it, and the way that led there; and how it
//! goes on.

use std::fmt::Write as _;
use std::sync::Arc;

use haarb_model::Span;
use haarb_sim::world::{Event as Happening, World};

use crate::alike::fingerprint;
use crate::events::{Event, Step, time};
use crate::watch::{Past, Watch};

/// The way to a state.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) before: Option<Arc<Self>>,
    pub(crate) lines: Vec<String>,
}

impl Way {
    /// The lines of a scenario.
    #[must_use]
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = self.before.as_ref().map_or(Vec::new(), |way| way.lines());
        lines.extend(self.lines.iter().cloned());
        lines
    }

    /// The way that goes on with these lines.
    pub(crate) fn then(self: &Arc<Self>, lines: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            before: Some(Arc::clone(self)),
            lines,
        })
    }
}

/// A state.
pub(crate) struct State {
    pub world: World,
    pub watch: Watch,
    pub way: Arc<Way>,
    /// Something has told the networks apart.
    pub apart: bool,
    pub events: usize,
}

/// What running a state for a while gave.
pub(crate) struct Ran {
    pub state: State,
    pub print: u128,
    pub past: Vec<Past>,
}

impl State {
    /// With its fingerprint.
    pub(crate) fn printed(mut self) -> Ran {
        self.world.trace.clear();
        let past = std::mem::take(&mut self.watch.past);
        let extra = format!("{:?}", self.watch.dual());
        Ran {
            print: fingerprint(&self.world, &extra),
            past,
            state: self,
        }
    }

    /// The same state, to go on with; `lines` are added to its way.
    pub(crate) fn copy(&self, lines: Vec<String>) -> Self {
        let mut world = self.world.clone();
        world.checks.fired.clear();
        Self {
            world,
            watch: self.watch.clone(),
            way: self.way.then(lines),
            apart: self.apart,
            events: self.events,
        }
    }

    /// An event happens to a state.
    pub(crate) fn happen(&self, event: &Event) -> Self {
        let mut state = self.copy(event.lines.clone());
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

    /// Time passes.
    pub(crate) fn wait(&self, span: Span) -> Self {
        let mut state = self.copy(vec![format!("run {}", time(span))]);
        state.watch.run(&mut state.world, span);
        bound_sockets(&mut state.world);
        state
    }

    /// Runs until nothing has changed for longer than every wait, or says that it never settles.
    pub(crate) fn settle(&self) -> Self {
        const SLICE: Span = Span::from_millis(250);
        const NEVER: Span = Span::from_secs(60);
        let mut state = self.copy(Vec::new());
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
        state.way = state.way.then(vec![line]);
        state
    }
}

/// What an operator would see of a world.
fn summary(world: &World) -> String {
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
            "{:?}{:?}{:?}",
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
