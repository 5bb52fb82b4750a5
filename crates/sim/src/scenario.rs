//! Text scenarios: a cluster, acts, time, and what is seen.
//!
//! ```text
//! # E2  The active server loses its power.
//!
//! cluster nodes=a,b profile=telecom
//! power a on
//! power b on
//! run 5s
//! ----
//!    1.312 a starting -> taking  S3 start, together, epoch 1
//! ```
//!
//! Words above `----` are done, words below are what they gave; `REWRITE=1` writes them
//! anew. The verbs are those of [`crate::act::parse`], and `cluster`, `run`, `status`,
//! `check`, `log`, `epoch`, `mend`.

use std::fmt::Write as _;

use haarb_model::{NodeName, Prefer, Role, Span, Timing};

use crate::act::{self, NoAct};
use crate::options::Options;
use crate::rng::Rng;
use crate::world::World;

/// What a scenario file is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Comments and empty lines before it.
    pub before: String,
    /// What is done, line by line.
    pub input: Vec<String>,
    /// What was seen when the file was written.
    pub expected: String,
}

/// Splits a file into blocks, and what comes after the last one.
#[must_use]
pub fn blocks(text: &str) -> (Vec<Block>, String) {
    let mut blocks = Vec::new();
    let (mut before, mut input, mut expected) = (String::new(), Vec::new(), None);
    for line in text.lines() {
        match &mut expected {
            Some(lines) if line.is_empty() => {
                blocks.push(Block {
                    before: std::mem::take(&mut before),
                    input: std::mem::take(&mut input),
                    expected: std::mem::take(lines),
                });
                expected = None;
                before.push('\n');
            }
            Some(lines) => {
                lines.push_str(line);
                lines.push('\n');
            }
            None if line == "----" => expected = Some(String::new()),
            None if input.is_empty() && (line.is_empty() || line.starts_with('#')) => {
                before.push_str(line);
                before.push('\n');
            }
            None => input.push(line.to_owned()),
        }
    }
    if let Some(expected) = expected {
        blocks.push(Block {
            before: std::mem::take(&mut before),
            input: std::mem::take(&mut input),
            expected,
        });
    }
    for line in input {
        before.push_str(&line);
        before.push('\n');
    }
    (blocks, before)
}

/// Runs a whole file. Answers what the file would be with what is seen now.
#[must_use]
pub fn replay(text: &str) -> String {
    let (blocks, rest) = blocks(text);
    let mut stage = Stage::default();
    let mut out = String::new();
    for block in blocks {
        out.push_str(&block.before);
        let mut seen = String::new();
        for line in &block.input {
            out.push_str(line);
            out.push('\n');
            match stage.line(line) {
                Ok(text) => seen.push_str(&text),
                Err(NoAct(what)) => {
                    let _ = writeln!(seen, "error: {what}");
                }
            }
        }
        if seen.is_empty() {
            seen.push_str("ok\n");
        }
        let _ = write!(out, "----\n{seen}");
    }
    out.push_str(&rest);
    out
}

/// A scenario under way.
#[derive(Debug, Default)]
struct Stage {
    world: Option<World>,
    shown: usize,
    quiet: bool,
}

impl Stage {
    fn line(&mut self, line: &str) -> Result<String, NoAct> {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["cluster", options @ ..] = &words[..] {
            let (options, rng) = cluster(options)?;
            let mut world =
                World::new(options.segment(), &options.disks, rng).with_gate(options.gate);
            world.checks.forgetful = options.disks.contains(&false);
            self.world = Some(world);
            self.shown = 0;
            return Ok(String::new());
        }
        let world = self
            .world
            .as_mut()
            .ok_or_else(|| NoAct("begin with `cluster`".into()))?;
        match words[..] {
            [] => {}
            ["run", time] => world.run_for(act::span(time)?),
            ["mend"] => world.mend(),
            ["log", "none"] => self.quiet = true,
            ["log", "all"] => self.quiet = false,
            ["status"] => {
                let mut seen = self.news();
                seen.push_str(&self.status());
                return Ok(seen);
            }
            ["check"] => {
                let mut seen = self.news();
                seen.push_str(&self.check());
                return Ok(seen);
            }
            // The highest epoch that a server knows, as if its disk had kept it.
            ["epoch", n, epoch] => {
                let n = world
                    .servers
                    .iter()
                    .position(|s| s.name.as_str() == n)
                    .ok_or_else(|| NoAct(format!("no server {n}")))?;
                let epoch = epoch
                    .parse()
                    .map_err(|_| NoAct("epoch NODE NUMBER".into()))?;
                for reserve in &world.segment.reserves {
                    let record = world.servers[n].record.reserves.entry(reserve.name.clone());
                    let record = record.or_default();
                    record.epoch = haarb_model::Epoch(epoch);
                    record.own = record.epoch;
                }
            }
            ["left", n, other] => {
                let found = world.servers.iter().position(|s| s.name.as_str() == n);
                let n = found.ok_or_else(|| NoAct(format!("no server {n}")))?;
                let other = NodeName::new(other).map_err(|e| NoAct(e.to_string()))?;
                world.servers[n].record.left.insert(other);
            }
            _ => {
                let act = act::parse(world, &words)?;
                world.act(&act);
                // An operator waits for the answer.
                if matches!(act, act::Act::Command(..)) {
                    world.run_for(Span::from_millis(1));
                }
            }
        }
        Ok(self.news())
    }

    fn news(&mut self) -> String {
        let Some(world) = &self.world else {
            return String::new();
        };
        if let Some(failure) = world.checks.failure() {
            return format!("WRONG: {failure}\n{}\n", world.trace.join("\n"));
        }
        let from = std::mem::replace(&mut self.shown, world.trace.len());
        if self.quiet {
            return String::new();
        }
        world.trace[from..]
            .iter()
            .fold(String::new(), |text, line| text + line + "\n")
    }

    fn status(&self) -> String {
        let mut text = String::new();
        let Some(world) = &self.world else {
            return text;
        };
        for (n, server) in world.servers.iter().enumerate() {
            if !server.power {
                let _ = writeln!(text, "{} has no power", server.name);
                continue;
            }
            for (r, spec) in world.segment.reserves.iter().enumerate() {
                let role = world.role(n, r).map_or("no arbiter", Role::as_str);
                let _ = write!(text, "{} {} {role}", server.name, spec.name);
                let core = server.core.as_ref();
                if let Some(reserve) = core.and_then(|core| core.reserve(&spec.name)) {
                    let _ = write!(text, " epoch {}", reserve.epoch());
                    if reserve.stale_since.is_some() {
                        text.push_str(", stale");
                    }
                    if let Some(obstacle) = &reserve.obstacle
                        && !reserve.role.serves()
                    {
                        let _ = write!(text, ", not eligible: {obstacle}");
                    }
                }
                if server.holds(r, world.now) {
                    text.push_str(", holds the VIP");
                }
                if server.running[r] {
                    text.push_str(", services run");
                }
                text.push('\n');
            }
            if let Some(core) = &server.core {
                let mode = core.mode();
                if !mode.ends.is_empty() {
                    let reason = mode.mode.reason();
                    let _ = writeln!(
                        text,
                        "{} manual ({reason}) until: {}",
                        server.name, mode.ends
                    );
                }
                for alarm in core.alarms() {
                    let severity = alarm.severity.as_str();
                    let _ = writeln!(text, "{} alarm {} ({severity})", server.name, alarm.rule);
                }
            }
        }
        text
    }

    /// Whether every check held, and for how long at most nobody held a virtual IP since the
    /// last `check`.
    fn check(&mut self) -> String {
        let Some(world) = &mut self.world else {
            return String::new();
        };
        if let Some(failure) = world.checks.failure() {
            return format!("WRONG: {failure}\n");
        }
        let mut text = String::new();
        for (r, reserve) in world.segment.reserves.iter().enumerate() {
            let gap = world.checks.gaps.insert(r, (world.now, Span::ZERO));
            let gap = gap.map_or(Span::ZERO, |(_, longest)| longest);
            let _ = write!(text, "{}: nobody held it for at most {gap}", reserve.name);
            match world.checks.dual.remove(&r) {
                Some((_, dual)) => {
                    let _ = writeln!(text, ", two servers did for {dual}");
                }
                None => text.push_str(", never two servers\n"),
            }
        }
        text
    }
}

fn cluster(words: &[&str]) -> Result<(Options, Rng), NoAct> {
    let mut options = Options::pair();
    let mut seed = 1;
    let mut steady = false;
    for word in words {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| NoAct(format!("{word:?}: key=value")))?;
        let wrong = || NoAct(format!("{key}={value} is not understood"));
        let yes = |text: &str| match text {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(wrong()),
        };
        match key {
            "nodes" => {
                options.nodes = ["a", "b", "c", "d"]
                    .into_iter()
                    .filter(|name| value.split(',').any(|word| word == *name))
                    .collect();
            }
            "reserves" => {
                options.reserves = ["sip", "web"]
                    .into_iter()
                    .filter(|name| value.split(',').any(|word| word == *name))
                    .collect();
            }
            "profile" => {
                options.timing = match value {
                    "telecom" => Timing::telecom(),
                    "lan" => Timing::lan(),
                    "wan" => Timing::wan(),
                    _ => return Err(wrong()),
                }
            }
            "switch-addresses" => options.switch_answers = yes(value)?,
            "gate" => options.gate = yes(value)?,
            "services" => options.services = yes(value)?,
            "directories" => options.directories = yes(value)?,
            "strict" => options.strict = yes(value)?,
            "resume-on-one" => options.resume_on_one = value == "agree",
            "prefer" => {
                options.prefer = match value {
                    "availability" => Prefer::Availability,
                    "consistency" => Prefer::Consistency,
                    _ => return Err(wrong()),
                }
            }
            "diskless" => {
                options.disks = options.nodes.iter().map(|n| *n != value).collect();
            }
            "seed" => seed = value.parse().map_err(|_| wrong())?,
            "steady" => steady = yes(value)?,
            "cold-start" => options.timing.cold_start = act::span(value)?,
            "rearm-alone" => options.timing.rearm_alone = act::span(value)?,
            _ => return Err(wrong()),
        }
    }
    options.disks.resize(options.nodes.len(), true);
    if options.nodes.len() < 2 || options.reserves.is_empty() {
        return Err(NoAct(
            "at least nodes=a,b and one of reserves=sip,web".into(),
        ));
    }
    let rng = if steady {
        Rng::steady(seed)
    } else {
        Rng::new(seed)
    };
    Ok((options, rng))
}
