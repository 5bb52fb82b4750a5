//! What can happen: every event of the search, in the words of the scenarios, and when it
//! can. Faults have their repairs as events of their own.

use haarb_model::Span;
use haarb_sim::NetIx;
use haarb_sim::act::{self, Act, NoAct};
use haarb_sim::server::Process;
use haarb_sim::world::World;

/// One step of an event.
#[derive(Clone, Debug)]
pub enum Step {
    /// Something is done.
    Do(Act),
    /// Time passes within the event: a stall has a length.
    Run(Span),
}

type Guard = Box<dyn Fn(&World) -> bool + Send + Sync>;

/// One event.
pub struct Event {
    /// Its lines in a scenario.
    pub lines: Vec<String>,
    /// What is done.
    pub steps: Vec<Step>,
    /// The network that it concerns, if only one.
    pub net: Option<NetIx>,
    /// A server takes by an operator's force, whoever serves.
    pub forces: bool,
    guard: Guard,
}

impl Event {
    /// Whether it can happen in this state and would change anything.
    #[must_use]
    pub fn can(&self, world: &World) -> bool {
        (self.guard)(world)
    }

    /// In one line.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.join(", ")
    }
}

/// How much of the alphabet is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Links, switches, holes, one-way loss, power, stalls, switchover and force.
    Core,
    /// All that there is.
    Full,
}

/// Every event for a world.
///
/// # Errors
/// [`NoAct`] where a line is no act: a mistake in this file.
pub fn events(world: &World, alphabet: Alphabet) -> Result<Vec<Event>, NoAct> {
    let mut list = List {
        world,
        events: Vec::new(),
    };
    let nodes: Vec<String> = world
        .segment
        .nodes
        .iter()
        .map(|n| n.name.to_string())
        .collect();
    let nets: Vec<String> = world
        .segment
        .networks
        .iter()
        .map(|n| n.name.to_string())
        .collect();
    for (i, net) in nets.iter().enumerate() {
        list.network(i, net, alphabet)?;
        for (n, node) in nodes.iter().enumerate() {
            list.toggle(
                &format!("cable {node} {net}"),
                ("out", "in"),
                Some(i),
                move |w| w.fabric.nets[i].cable[n],
            )?;
            for (m, other) in nodes.iter().enumerate().filter(|(m, _)| *m != n) {
                list.toggle(
                    &format!("one-way {node} {other} {net}"),
                    ("on", "off"),
                    Some(i),
                    move |w| !w.fabric.ways[i][n][m].all,
                )?;
            }
        }
    }
    if alphabet == Alphabet::Full {
        list.toggle("no-icmp", ("on", "off"), None, |w| {
            !w.fabric.ways[0][0][1].icmp
        })?;
        list.toggle("no-udp", ("on", "off"), None, |w| {
            !w.fabric.ways[0][0][1].udp
        })?;
    }
    for (n, node) in nodes.iter().enumerate() {
        list.server(n, node)?;
        if alphabet == Alphabet::Full {
            list.processes(n, node)?;
            list.commands(n, node)?;
        }
    }
    Ok(list.events)
}

struct List<'a> {
    world: &'a World,
    events: Vec<Event>,
}

impl List<'_> {
    fn add(
        &mut self,
        lines: &[&str],
        net: Option<NetIx>,
        guard: impl Fn(&World) -> bool + Send + Sync + 'static,
    ) -> Result<(), NoAct> {
        let step = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            Ok(match words[..] {
                ["run", time] => Step::Run(act::span(time)?),
                _ => Step::Do(act::parse(self.world, &words)?),
            })
        };
        let steps = lines.iter().map(step).collect::<Result<Vec<_>, NoAct>>()?;
        self.events.push(Event {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            steps,
            net,
            forces: lines.iter().any(|line| line.ends_with(" force")),
            guard: Box::new(guard),
        });
        Ok(())
    }

    /// A fault and its repair; `well` says whether it is mended now.
    fn toggle(
        &mut self,
        what: &str,
        (bad, good): (&str, &str),
        net: Option<NetIx>,
        well: impl Fn(&World) -> bool + Copy + Send + Sync + 'static,
    ) -> Result<(), NoAct> {
        self.add(&[&format!("{what} {bad}")], net, well)?;
        self.add(&[&format!("{what} {good}")], net, move |w| !well(w))
    }

    fn network(&mut self, i: NetIx, net: &str, alphabet: Alphabet) -> Result<(), NoAct> {
        self.toggle(&format!("switch {net}"), ("off", "on"), Some(i), move |w| {
            w.fabric.nets[i].power
        })?;
        self.toggle(
            &format!("switch {net}"),
            ("hangs", "forwards"),
            Some(i),
            move |w| w.fabric.nets[i].forwards,
        )?;
        self.toggle(&format!("hole {net}"), ("on", "off"), Some(i), move |w| {
            !w.fabric.ways[i][0][1].all || !w.fabric.ways[i][1][0].all
        })?;
        if alphabet == Alphabet::Full && self.world.segment.networks[i].switch_answers {
            self.toggle(
                &format!("switch {net}"),
                ("mute", "answers"),
                Some(i),
                move |w| w.fabric.nets[i].answers,
            )?;
        }
        Ok(())
    }

    fn server(&mut self, n: usize, node: &str) -> Result<(), NoAct> {
        let short = self.world.segment.timing.lease.part(2);
        let short = format!("run {}", time(short));
        let runs = move |w: &World| {
            let server = &w.servers[n];
            server.power && server.frozen.is_none() && server.paused.is_none()
        };
        self.toggle(&format!("power {node}"), ("off", "on"), None, move |w| {
            w.servers[n].power
        })?;
        self.add(&[&format!("freeze {node}")], None, runs)?;
        self.add(&[&format!("thaw {node}")], None, move |w| {
            w.servers[n].frozen.is_some()
        })?;
        self.add(&[&format!("pause {node}")], None, runs)?;
        self.add(&[&format!("resume {node}")], None, move |w| {
            w.servers[n].paused.is_some()
        })?;
        for (stop, go) in [("freeze", "thaw"), ("pause", "resume")] {
            let lines = [
                format!("{stop} {node}"),
                short.clone(),
                format!("{go} {node}"),
            ];
            self.add(&[&lines[0], &lines[1], &lines[2]], None, runs)?;
        }
        let decides = move |w: &World| runs(w) && w.servers[n].core.is_some();
        self.add(&[&format!("switchover sip on {node}")], None, decides)?;
        self.add(&[&format!("promote sip on {node} force")], None, decides)
    }

    /// Daemons that are killed: started again at once, or not before somebody does it; that stand
    /// still, and go on.
    fn processes(&mut self, n: usize, node: &str) -> Result<(), NoAct> {
        let spec = &self.world.segment.reserves[0];
        let (services, directories) = (spec.services > 0, spec.directories > 0);
        for process in Process::ALL {
            if process == Process::Supervisor && !services
                || process == Process::Syncer && !directories
            {
                continue;
            }
            let name = process.as_str();
            let runs = move |w: &World| w.servers[n].power && w.servers[n].runs(process);
            self.add(&[&format!("kill {node} {name} for 60ms")], None, runs)?;
            self.add(&[&format!("kill {node} {name}")], None, runs)?;
            self.add(&[&format!("start {node} {name}")], None, move |w| {
                w.servers[n].power && w.servers[n].down[process.ix()]
            })?;
            let stopped = move |w: &World| w.servers[n].stopped[process.ix()];
            self.add(&[&format!("stop {node} {name}")], None, move |w| {
                runs(w) && !stopped(w)
            })?;
            self.add(&[&format!("continue {node} {name}")], None, stopped)?;
        }
        let lease = self.world.segment.timing.lease;
        let up = move |w: &World| w.servers[n].power && w.servers[n].core.is_some();
        for span in [lease.part(5), lease.times(2)] {
            self.add(&[&format!("kill {node} all for {}", time(span))], None, up)?;
        }
        Ok(())
    }

    /// What operators do, and what services do.
    fn commands(&mut self, n: usize, node: &str) -> Result<(), NoAct> {
        let decides = move |w: &World| {
            let server = &w.servers[n];
            server.power
                && server.frozen.is_none()
                && server.paused.is_none()
                && server.core.is_some()
        };
        for line in ["promote sip on", "demote sip on", "clear sip on"] {
            self.add(&[&format!("{line} {node}")], None, decides)?;
        }
        self.toggle(
            &format!("maintenance {node}"),
            ("on", "off"),
            None,
            move |w| {
                let core = w.servers[n].core.as_ref();
                core.is_some_and(|core| core.mode().mode != haarb_model::Mode::Maintenance)
            },
        )?;
        // A server that shuts down lets go, then its power goes.
        let lines = [
            format!("shutdown {node}"),
            "run 300ms".to_owned(),
            format!("power {node} off"),
        ];
        self.add(&[&lines[0], &lines[1], &lines[2]], None, decides)?;
        self.add(&[&format!("remove-vip {node} sip")], None, move |w| {
            w.servers[n].kernel[0].added
        })?;
        if self.world.segment.reserves[0].services == 0 {
            return Ok(());
        }
        self.add(&[&format!("crash {node} sip")], None, move |w| {
            w.servers[n].running[0]
        })?;
        self.toggle(
            &format!("broken {node} sip"),
            ("on", "off"),
            None,
            move |w| !w.servers[n].broken[0],
        )
    }
}

/// A span as scenarios write it.
#[must_use]
pub fn time(span: Span) -> String {
    let us = span.as_micros();
    if us.is_multiple_of(1_000_000) {
        format!("{}s", us / 1_000_000)
    } else {
        let ms = us as f64 / 1000.0;
        format!("{ms}ms")
    }
}
