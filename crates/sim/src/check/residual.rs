//! Residual cases of the design (section 8), as the only excuse for two servers that offer a virtual
//! IP. Judges the state of the world alone, never what the servers think.

use haarb_model::{Span, advert_life};

use super::Checks;
use super::reach::{believed, listens, tells};
use crate::NodeIx;
use crate::world::World;

impl Checks {
    pub(super) fn note_who_stands(&mut self, world: &World) {
        for (n, server) in world.servers.iter().enumerate() {
            if !server.power || listens(server) {
                self.stands_since.remove(&n);
            } else {
                self.stands_since.entry(n).or_insert(world.now);
            }
        }
    }

    /// Residual case R1c: the software of one of two servers stopped, and one direction died at
    /// nearly the same moment, before the other server could know of the first. Once both serve,
    /// nobody can be told until the lease ends.
    pub(super) fn fell_just_now(&self, world: &World) -> bool {
        let dual = !self.dual_now.is_empty();
        let others = |n: NodeIx| (0..world.servers.len()).filter(move |other| *other != n);
        self.stands_since.iter().any(|(&n, at)| {
            let timing = world.timing(n);
            // How long the last word of the arbiter or the vip-agent counts, and the silence that is
            // judged.
            let word = if tells(&world.servers[n]) {
                timing.lease.part(2)
            } else {
                advert_life(timing.lease)
            };
            let known_after = word + timing.dead_after.times(2);
            let fresh = dual || world.now.since(*at) <= known_after;
            let apart = |other: NodeIx| {
                world.servers[other].power
                    && world.fabric.degree(n) > 0
                    && world.fabric.degree(other) > 0
                    && (dual || !world.fabric.connected(n, other))
            };
            fresh && others(n).any(apart)
        })
    }

    /// Residual case OP2: who is given a reserve by force cannot know whether a server serves
    /// that it does not hear, or that it began to hear within the last two datagrams.
    pub(super) fn could_not_hear(&self, world: &World) -> bool {
        let slack = world.segment.timing.probe_interval.times(2) + Span::from_millis(2);
        self.unheard_at
            .is_some_and(|at| world.now.since(at) <= slack)
    }

    /// Residual case R1d: servers that could not hear each other took at the same moment, before
    /// either could see the other in an answer for the virtual IPs.
    pub(super) fn took_at_once(&self, world: &World, servers: [NodeIx; 2], r: usize) -> bool {
        let probe = world.segment.timing.vip_probe + Span::from_millis(2);
        let just_now = |n| {
            let since = self.offers_since.get(&(n, r));
            since.is_some_and(|since| world.now.since(*since) <= probe)
        };
        self.could_not_hear(world) && servers.into_iter().all(just_now)
    }
}

/// A residual case is there: two servers that see their switches, while no datagram passes
/// in any direction and an ARP probe would not be answered (a frozen user space sends none);
/// a machine that stands still as a whole; a server that started while one direction was dead,
/// whose datagrams nobody may believe yet.
pub(super) fn excused(world: &World, dual: bool) -> bool {
    let servers = &world.servers;
    if servers.iter().any(|s| s.power && s.paused.is_some()) {
        return true;
    }
    for a in 0..servers.len() {
        for b in 0..servers.len() {
            if a == b || !servers[a].power || !servers[b].power {
                continue;
            }
            // Without a switch to ask, nobody can know that it is cut off.
            let asked = world.segment.networks.iter().any(|net| net.switch_answers);
            let seen = !asked || (world.fabric.degree(a) > 0 && world.fabric.degree(b) > 0);
            // Who stands still says nothing.
            let says = |n: NodeIx| servers[n].frozen.is_none();
            let there = says(a) && world.fabric.reaches(a, b);
            let back = says(b) && world.fabric.reaches(b, a);
            // Once both serve, only a datagram can tell them.
            if seen && !there && !back && (dual || !world.fabric.connected(a, b)) {
                return true;
            }
            if seen && there && !back && !believed(world, a, b) {
                return true;
            }
        }
    }
    false
}
