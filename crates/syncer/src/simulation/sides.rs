//! The two sides of a world: how each starts, and what each does when its turn comes.
//!
//! They meet only in the world's queues. The one thing to know: how far a side gets in its turn is
//! chance, and a standby may crash in it.

use super::outline::{outline, outline_up};
use super::tree::contents;
use super::watch::FakeWatch;
use super::{NAMES, World};
use crate::fence::Fence;
use crate::message::{Down, Up};
use crate::sink::{Sink, SinkError};
use crate::source::{Next, Source};
use crate::version::Kind;

impl World {
    pub(super) fn start_source(&mut self) {
        self.trace(&format!("source on {}", NAMES[self.active]));
        self.watch = FakeWatch {
            wall: self.wall.clone(),
            ..FakeWatch::default()
        };
        let other = vec![NAMES[1 - self.active].to_owned()];
        let mut source = Source::new(
            NAMES[self.active],
            self.epoch,
            other,
            &self.directory(self.active),
            Box::new(self.watch.clone()),
        );
        source.set_wall(&self.wall);
        self.source = Some(source);
    }

    pub(super) fn start_sink(&mut self, steps: Option<u32>) {
        self.fence = steps.map_or_else(Fence::open, Fence::after);
        let standby = 1 - self.active;
        let mut sink = Sink::new(
            "reserve",
            NAMES[standby],
            NAMES[self.active],
            self.epoch,
            &self.directory(standby),
            self.fence.clone(),
        );
        sink.set_wall(&self.wall);
        self.sink = Some(sink);
    }

    pub(super) fn step_source(&mut self) {
        let events: Vec<_> = self.watch.events.lock().unwrap().drain(..).collect();
        let Some(source) = &mut self.source else {
            return;
        };
        source.events(events, self.now);
        source.tick(self.now);
        let Some(id) = self.session else {
            return;
        };
        for _ in 0..self.random.below(8) {
            match source.next(id, self.now) {
                Next::Send(message) => {
                    match &message {
                        Down::Put {
                            seq, path, version, ..
                        }
                        | Down::Meta {
                            seq, path, version, ..
                        } => {
                            let stored = matches!(version.kind, Kind::File | Kind::Symlink);
                            let hash = stored.then_some(version.hash);
                            self.sent.insert(*seq, (path.clone(), hash));
                        }
                        Down::Append { seq, path, .. } => {
                            let hash = source.sent_last(id);
                            self.sent.insert(*seq, (path.clone(), hash));
                        }
                        Down::Link {
                            seq, path, name, ..
                        } => {
                            let hash = Some(name.version.hash);
                            self.sent.insert(*seq, (path.clone(), hash));
                        }
                        Down::Rename { seq, from, .. } => {
                            self.sent.insert(*seq, (from.clone(), None));
                        }
                        Down::Delete { seq, path, .. } => {
                            let held = source.trees[0].guard.held();
                            assert!(held.is_none(), "{path:?} is deleted although {held:?}");
                            self.sent.insert(*seq, (path.clone(), None));
                        }
                        _ => {}
                    }
                    let line = format!("down: {}", outline(&message));
                    self.history.update(line.as_bytes());
                    if self.traced {
                        println!("{line}");
                    }
                    self.down.push_back(message.encode());
                }
                Next::Busy => {}
                Next::Idle => break,
            }
        }
        for _ in 0..self.random.below(8) {
            let Some(message) = self.up.pop_front() else {
                break;
            };
            let message = Up::decode(&message).unwrap();
            source.take(id, message, self.now).unwrap();
        }
    }

    /// The sink works, under the eye of the invariants. Returns false when it crashed.
    pub(super) fn step_sink(&mut self) {
        let standby = 1 - self.active;
        let root = self.roots[standby].path().to_owned();
        let before = contents(&root);
        let Some(sink) = &mut self.sink else {
            return;
        };
        let mut result = Ok(());
        for _ in 0..self.random.below(8) {
            let Some(message) = self.down.pop_front() else {
                break;
            };
            result = sink.take(Down::decode(&message).unwrap());
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() && self.random.below(2) == 0 {
            result = sink.flush();
            if result.is_ok() && self.random.below(2) == 0 {
                sink.look_around(std::time::Duration::ZERO);
            }
        }
        let answers = sink.answers();
        for answer in &answers {
            let line = format!("up: {}", outline_up(answer));
            self.history.update(line.as_bytes());
            if self.traced {
                println!("{line}");
            }
        }
        self.check_replaced(standby, &before);
        match result {
            // The link was cut: what was received is still done, and nobody hears of it.
            Ok(()) if self.session.is_none() => {}
            Ok(()) => {
                self.check_acknowledged(&answers);
                self.up.extend(answers.iter().map(Up::encode));
            }
            Err(SinkError::Closed(_)) => {
                // It crashed: nothing of it is left but the disk.
                self.sink = None;
                self.cut();
            }
            Err(error) => panic!("{error}"),
        }
        self.note_had(standby);
    }
}
