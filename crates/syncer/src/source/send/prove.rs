//! The proof that nobody was writing a file while it was read: a mark that comes after its events.
//!
//! Nothing waits here: files do, in their session. The one thing to know: a mark proves what was read
//! before it was made, however many files that are.

use haarb_model::Mono;

use crate::source::session::Session;
use crate::source::{Next, Source};

impl Source {
    /// A file that was changed a moment ago may be open again, with the event of that still on
    /// its way: it was read half written. After a mark that is made now, that event is here.
    /// Returns the number that the mark must exceed; `None`: without a watch there are none.
    pub(super) fn prove(&mut self, number: usize) -> Option<u64> {
        let tree = &mut self.trees[number];
        if tree.making > tree.marked {
            // The one on its way was made before the file was read. Another one is made when
            // it has arrived, for all that wait by then.
            return Some(tree.making);
        }
        self.mark(number).map(|mark| mark - 1)
    }

    fn mark(&mut self, number: usize) -> Option<u64> {
        self.seals += 1;
        let tree = &mut self.trees[number];
        self.watch.mark(&tree.place.path, self.seals).ok()?;
        tree.making = self.seals;
        Some(self.seals)
    }

    /// Files that were read before the last mark that arrived, and of which no event came
    /// since, stood as their writers left them.
    pub(super) fn next_proven(
        &mut self,
        session: &mut Session,
        number: usize,
        now: Mono,
    ) -> Option<Next> {
        let tree = &mut self.trees[number];
        let (marked, on_its_way) = (tree.marked, tree.making > tree.marked);
        let dir = &mut session.dirs[number];
        let Some((path, pending, whole)) = dir.proven(marked) else {
            if !on_its_way && dir.doubting() > 0 {
                // They were read after the last mark was made: the next one is for them.
                self.mark(number);
            }
            return None;
        };
        if tree.settling.has(&path) {
            dir.again_soon(path, pending, now);
            return Some(Next::Busy);
        }
        Some(self.send_read(session, number, path, pending, *whole, false, now))
    }
}
