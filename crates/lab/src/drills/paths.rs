//! What is between the servers: holes, walls, firewalls, losses, and the cut cable between two sites.

use super::{STAYS, TAKEOVER, UNDISTURBED};
use crate::{
    bad_cable::Stop,
    cluster::Goal,
    drill::{
        Active as WhoIsActive, Drill,
        Fault::{self, Hole, Loss, MendPaths, NoSwitch, PowerOff, Promote, Pull, Together, Wall},
        Service,
        Step::{Do, OtherServes, Reach, Watch, WatchLong},
        Who::{self, Active, Standby},
    },
};

/// On both networks, what the others send does not reach this server.
fn deaf(who: Who, stop: Stop) -> Fault {
    Together(vec![Wall(who, 0, stop), Wall(who, 1, stop)])
}

fn between(stop: Stop) -> Fault {
    Together(vec![deaf(Active, stop), deaf(Standby, stop)])
}

pub(super) fn drills() -> Vec<Drill> {
    [holes(), firewalls(), losses()].concat()
}

fn holes() -> Vec<Drill> {
    let settled = || Reach(Goal::Settled);
    let split = (WhoIsActive::Someone, Service::Whatever);
    let healed = (WhoIsActive::Someone, Service::Resumes);
    vec![
        Drill::new(
            "hole-on-one-network",
            "a layer-2 hole between the servers on one network",
            vec![Do(Hole(0)), Watch(2000)],
        )
        .expect(UNDISTURBED, &[])
        .advice("Repair the network between the switches; the other one carries on."),
        Drill::new(
            "hole-on-both-networks",
            "a layer-2 hole between the servers on both networks at once, both switches still answering both",
            vec![Do(Together(vec![Hole(0), Hole(1)])), Watch(1000)],
        )
        .expect(split, &["B7"])
        .residual("R1")
        .advice("Two servers alone cannot know this case from a power-off: use a witness, or `strict`. Both serve until the hole is mended."),
        Drill::new(
            "hole-mended",
            "the hole on both networks is mended",
            vec![Do(MendPaths), settled(), Watch(300)],
        )
        .after("hole-on-both-networks")
        .expect(healed, &["A1", "A2"])
        .residual("R1")
        .advice("Compare the place for conflicts: both servers wrote while they were apart."),
        Drill::new(
            "cable-and-hole",
            "the active loses one network, and on the other one there is a layer-2 hole",
            vec![Do(Together(vec![Pull(Active, 0), Hole(1)])), Watch(1000)],
        )
        .expect(split, &[])
        .residual("R2")
        .advice("As for hole-on-both-networks: a witness or `strict` closes it."),
        Drill::new(
            "cable-and-hole-mended",
            "both are mended",
            vec![Do(MendPaths), Do(Fault::PlugAll), settled(), Watch(300)],
        )
        .after("cable-and-hole")
        .expect(healed, &[])
        .residual("R2")
        .advice("Compare the place for conflicts: both servers wrote while they were apart."),
        Drill::new(
            "cut-between-sites",
            "the cable between two sites is cut; each site keeps one of the two addresses by which the switches are known",
            vec![
                Do(Together(vec![
                    Hole(0),
                    Hole(1),
                    NoSwitch(Active, 1),
                    NoSwitch(Standby, 0),
                ])),
                Watch(2000),
            ],
        )
        .layout(Loss(0))
        .expect(UNDISTURBED, &["A7"])
        .advice("Repair the cable. With one switch address at each site, a cut takes one network from each server, so the active one stays and the other one waits."),
        Drill::new(
            "cut-between-sites-mended",
            "the cable between the sites is repaired",
            vec![Do(MendPaths), settled()],
        )
        .after("cut-between-sites")
        .expect(UNDISTURBED, &[])
        .advice("Nothing."),
        Drill::new(
            "site-lost",
            "the site of the active is lost, with one of the addresses by which the switches are known; later an operator promotes the other one",
            vec![
                Do(Together(vec![PowerOff(Active), NoSwitch(Standby, 0)])),
                Watch(1000),
                Do(Promote(Standby)),
                OtherServes,
                Watch(300),
            ],
        )
        .layout(Loss(0))
        .expect(TAKEOVER, &["OP2"])
        .advice("Make sure that the other site is dead and not only cut off, then `haarb promote --force`."),
    ]
}

fn firewalls() -> Vec<Drill> {
    let wall = |name, what, stop| {
        Drill::new(name, what, vec![Do(between(stop)), Watch(2500)]).layout(Loss(0))
    };
    vec![
        wall(
            "firewall-icmp",
            "a firewall between the servers drops ICMP on both networks",
            Stop::Icmp,
        )
        .expect(UNDISTURBED, &[])
        .takeovers(0)
        .advice("Allow ICMP echo between the servers: without it a dead kernel is told from dead software only by its datagrams."),
        wall(
            "firewall-udp",
            "a firewall between the servers drops UDP on both networks",
            Stop::Udp,
        )
        .expect(UNDISTURBED, &["A8", "B6a"])
        .takeovers(0)
        .advice("Allow UDP port 7950 between the servers: until then nothing protects the service."),
        wall(
            "firewall-icmp-udp",
            "a firewall between the servers drops ICMP and UDP on both networks",
            Stop::IcmpAndUdp,
        )
        .expect(UNDISTURBED, &["B8", "B6a", "A9", "A8"])
        .takeovers(0)
        .advice("Allow both; the standby holds back because the virtual IP still answers."),
        Drill::new(
            "firewall-lifted",
            "that firewall is opened again",
            vec![Do(MendPaths), Reach(Goal::Settled)],
        )
        .after("firewall-icmp-udp")
        .expect(UNDISTURBED, &[])
        .takeovers(0)
        .advice("Nothing."),
    ]
}

fn losses() -> Vec<Drill> {
    let everything = Stop::Everything;
    let one_way =
        |name, what, fault| Drill::new(name, what, vec![Do(fault), Watch(2000)]).layout(Loss(0));
    vec![
        Drill::new(
            "one-way-active-not-heard",
            "on both networks nothing of the active reaches the standby",
            vec![Do(deaf(Standby, everything)), OtherServes, Watch(500)],
        )
        .layout(Loss(0))
        .expect(TAKEOVER, &["A4"])
        .advice("Look for a broken transceiver or a filter in one direction."),
        one_way(
            "one-way-standby-not-heard",
            "on both networks nothing of the standby reaches the active",
            deaf(Active, everything),
        )
        .expect(UNDISTURBED, &[])
        .takeovers(0)
        .advice("Look for a broken transceiver or a filter in one direction."),
        one_way(
            "one-way-crossed",
            "on one network nothing of the active reaches the standby, on the other one nothing of the standby the active",
            Together(vec![Wall(Standby, 0, everything), Wall(Active, 1, everything)]),
        )
        .expect(UNDISTURBED, &[])
        .takeovers(0)
        .advice("Look for a broken transceiver or a filter in one direction on each network."),
        Drill::new(
            "one-way-mended",
            "the one-way loss on both networks ends",
            vec![Do(MendPaths), Reach(Goal::Settled)],
        )
        .after("one-way-active-not-heard")
        .expect(UNDISTURBED, &[])
        .takeovers(0)
        .advice("Nothing."),
        Drill::new(
            "loss-30",
            "30 % random loss on every cable",
            vec![Do(Loss(30)), WatchLong],
        )
        .layout(Loss(0))
        .expect(STAYS, &[])
        .takeovers(0)
        .advice("Find the bad cables: `haarb status` shows the loss per path. `dead-after` has stretched meanwhile."),
    ]
}
