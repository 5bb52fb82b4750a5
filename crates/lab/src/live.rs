//! The live view: what a person sees while drills run.
//!
//! On a terminal, news scroll by and a few lines at the bottom are drawn again and again; elsewhere only
//! the news are printed. It reads along (client, picture, event streams) and never takes part: at the
//! moment of a failover it costs nothing but a glance at a few atomics.

use std::{
    io::{self, BufRead as _, BufReader, IsTerminal as _, Write},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    client::Glance,
    clock::Stamp,
    cluster::{Event, parse_events},
    error::LabError,
    picture::Picture,
    plan::{Plan, ServerId},
    segment::Segment,
};

/// How often the lines at the bottom are drawn.
const FRAME: Duration = Duration::from_millis(100);

/// News for the view.
enum News {
    /// A line of text.
    Line(String),
    /// What is being done now, for the bottom.
    Doing(String),
    /// An event of a server, with the generation of the server it came from.
    Event(Event),
    /// The end.
    Stop,
}

/// A running view.
pub struct Live {
    news: Sender<News>,
    thread: Option<JoinHandle<()>>,
    followers: Vec<Follower>,
}

/// Reads `haarb events --follow` of one server.
struct Follower {
    server: ServerId,
    child: Child,
    ended: Arc<AtomicBool>,
}

/// What the drawing thread knows.
struct Screen<W: Write> {
    out: W,
    is_terminal: bool,
    plan: Plan,
    glance: Glance,
    picture: Arc<Mutex<Picture>>,
    start: Stamp,
    doing: String,
    roles: Vec<String>,
    drawn_lines: usize,
}

impl Live {
    /// Starts the view on standard output, or on standard error when the output is for a program.
    #[must_use]
    pub fn start(lab: &Segment, on_stderr: bool) -> Self {
        let (news, incoming) = channel();
        let is_terminal = if on_stderr {
            io::stderr().is_terminal()
        } else {
            io::stdout().is_terminal()
        };
        let out: Box<dyn Write + Send> = if on_stderr {
            Box::new(io::stderr())
        } else {
            Box::new(io::stdout())
        };
        let screen = Screen {
            out,
            is_terminal,
            plan: lab.plan().clone(),
            glance: lab.client().glance(),
            picture: lab.picture(),
            start: Stamp::now(),
            doing: String::new(),
            roles: vec![String::new(); lab.plan().servers.len()],
            drawn_lines: 0,
        };
        let thread = std::thread::Builder::new()
            .name("live".into())
            .spawn(move || screen.run(&incoming))
            .ok();
        Self {
            news,
            thread,
            followers: Vec::new(),
        }
    }

    /// Prints a line.
    pub fn say(&self, line: impl Into<String>) {
        let _ = self.news.send(News::Line(line.into()));
    }

    /// Shows what is being done.
    pub fn doing(&self, what: impl Into<String>) {
        let _ = self.news.send(News::Doing(what.into()));
    }

    /// Follows the events of every server that has power and is not followed yet.
    ///
    /// # Errors
    /// When a command cannot be started in a server.
    pub fn follow(&mut self, lab: &Segment) -> Result<(), LabError> {
        self.followers.retain_mut(|follower| {
            let gone =
                follower.ended.load(Ordering::Relaxed) || !lab.server(follower.server).is_on();
            if gone {
                let _ = follower.child.kill();
                let _ = follower.child.wait();
            }
            !gone
        });
        for server in lab.powered() {
            if self
                .followers
                .iter()
                .any(|follower| follower.server == server)
            {
                continue;
            }
            let argv = ["haarb", "events", "--follow", "--json"];
            let mut child = lab
                .server(server)
                .command(&lab.programs().helper, &argv)?
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .map_err(LabError::Client)?;
            let ended = Arc::new(AtomicBool::new(false));
            if let Some(out) = child.stdout.take() {
                let (news, ended) = (self.news.clone(), Arc::clone(&ended));
                std::thread::spawn(move || {
                    for line in BufReader::new(out).lines().map_while(Result::ok) {
                        for event in parse_events(&line).unwrap_or_default() {
                            let _ = news.send(News::Event(event));
                        }
                    }
                    ended.store(true, Ordering::Relaxed);
                });
            }
            self.followers.push(Follower {
                server,
                child,
                ended,
            });
        }
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        for follower in &mut self.followers {
            let _ = follower.child.kill();
            let _ = follower.child.wait();
        }
        let _ = self.news.send(News::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<W: Write> Screen<W> {
    fn run(mut self, incoming: &Receiver<News>) {
        loop {
            match incoming.recv_timeout(FRAME) {
                Ok(News::Line(line)) => self.print(&line),
                Ok(News::Doing(what)) => self.doing = what,
                Ok(News::Event(event)) => self.event(&event),
                Ok(News::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.draw(),
            }
        }
        self.erase();
        let _ = self.out.flush();
    }

    fn event(&mut self, event: &Event) {
        let server = self.plan.server(&event.node);
        if let Some(role) = server.and_then(|server| self.roles.get_mut(server))
            && !event.to.is_empty()
        {
            role.clone_from(&event.to);
        }
        let change = if event.changes_role() {
            format!("{} -> {}", event.from, event.to)
        } else {
            event.to.clone()
        };
        // The first sentence says what happened; the others are advice, which `haarb events` has.
        let reason = event.why.split_inclusive(". ").next().unwrap_or_default();
        let line = format!(
            "    {:<6} {:<4} {change:<20} {}",
            event.node,
            event.rule,
            reason.trim_end()
        );
        self.print(&line);
    }

    fn print(&mut self, line: &str) {
        self.erase();
        let _ = writeln!(
            self.out,
            "{:7.2} {line}",
            Stamp::now().ms_since(self.start) / 1e3
        );
        let _ = self.out.flush();
    }

    fn erase(&mut self) {
        if self.drawn_lines > 0 {
            // Up to the first drawn line, then clear to the end of the screen.
            let _ = write!(self.out, "\x1b[{}A\r\x1b[J", self.drawn_lines);
            self.drawn_lines = 0;
        }
    }

    fn draw(&mut self) {
        if !self.is_terminal {
            return;
        }
        self.erase();
        let lines = self.lines();
        for line in &lines {
            // A line that wraps would take two lines of the screen and leave one behind.
            let line: String = line.chars().take(79).collect();
            let _ = writeln!(self.out, "{line}");
        }
        self.drawn_lines = lines.len();
        let _ = self.out.flush();
    }

    fn lines(&self) -> Vec<String> {
        let picture = self
            .picture
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let now = Stamp::now();
        let mut lines = vec![format!(
            "-- {:.0} s  {}",
            now.ms_since(self.start) / 1e3,
            self.doing
        )];
        for (id, name) in self.plan.servers.iter().enumerate() {
            let on = picture.servers.get(id).is_some_and(|server| server.on);
            let links: Vec<String> = (0..self.plan.networks.len())
                .map(|network| {
                    let mark = if picture.has_link(id, network) {
                        "up"
                    } else {
                        "--"
                    };
                    format!("{} {mark}", self.plan.networks[network])
                })
                .collect();
            let role = if on {
                self.roles[id].as_str()
            } else {
                "no power"
            };
            lines.push(format!("   {name:<8} {role:<10} {}", links.join("  ")));
        }
        let mut freshest: Option<Stamp> = None;
        let vips: Vec<String> = (0..self.plan.vips.len())
            .map(|vip| {
                let last = self.glance.last_answer(vip);
                freshest = freshest.max(last.map(|(_, when)| when));
                let by = match last {
                    Some((server, when)) if now.ms_since(when) < 50.0 => {
                        self.plan.servers[server].as_str()
                    }
                    _ => "nobody",
                };
                format!("{} by {by}", self.plan.vips[vip].address)
            })
            .collect();
        let silent = freshest.map_or(0.0, |when| now.ms_since(when).max(0.0));
        lines.push(format!(
            "   clients: {}; last answer {silent:.0} ms ago",
            vips.join(", ")
        ));
        lines
    }
}
