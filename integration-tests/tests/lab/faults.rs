//! Every fault of the lab does what its name says, and no more, and can be undone.

use std::time::Duration;

use haarb_integration_tests::{Bench, Test, with_logs};
use haarb_lab::{
    bad_cable::{BadCable, Flaws},
    clock::Stamp,
    history,
    roles::HELPER,
    segment::Segment,
    server::Output,
};

use crate::support::{
    ALPHA, BETA, BLUE, LIMIT, RED, Reply, alpha_asks_beta, alpha_serves, ask, carrier, run_on,
    take_all,
};

pub(crate) const TESTS: &[Test] = &[
    Test::new(
        "lab::a_pulled_cable_takes_one_carrier_and_one_address",
        a_pulled_cable_takes_one_carrier_and_one_address,
    ),
    Test::new(
        "lab::a_dead_switch_takes_every_carrier_of_its_network",
        a_dead_switch_takes_every_carrier_of_its_network,
    ),
    Test::new(
        "lab::a_hanging_switch_keeps_the_carriers",
        a_hanging_switch_keeps_the_carriers,
    ),
    Test::new(
        "lab::a_layer_2_hole_separates_servers_and_nobody_else",
        a_layer_2_hole_separates_servers_and_nobody_else,
    ),
    Test::new(
        "lab::a_killed_program_leaves_its_kernel_alive",
        a_killed_program_leaves_its_kernel_alive,
    ),
    Test::new(
        "lab::the_disk_outlives_a_power_off_and_memory_does_not",
        the_disk_outlives_a_power_off_and_memory_does_not,
    ),
    Test::new(
        "lab::a_server_has_its_own_processes_name_and_files",
        a_server_has_its_own_processes_name_and_files,
    ),
    Test::new(
        "lab::the_file_history_survives_a_power_off_whole",
        the_file_history_survives_a_power_off_whole,
    ),
    Test::new(
        "lab::a_bad_cable_loses_and_delays_as_asked",
        a_bad_cable_loses_and_delays_as_asked,
    ),
    Test::new(
        "lab::a_dead_server_stays_dead_when_its_switch_returns",
        a_dead_server_stays_dead_when_its_switch_returns,
    ),
    Test::new(
        "lab::a_switch_keeps_its_hardware_address",
        a_switch_keeps_its_hardware_address,
    ),
];

/// Long enough to call it silence; a reply takes a millisecond.
const SILENT: Duration = Duration::from_millis(300);

fn by_beta() -> Reply {
    Reply::By("beta".into())
}

fn sh(lab: &Segment, server: usize, script: &str) -> anyhow::Result<Output> {
    Ok(lab.run(server, &["/bin/sh", "-c", script], LIMIT)?)
}

fn a_pulled_cable_takes_one_carrier_and_one_address(bench: &Bench) -> anyhow::Result<()> {
    let mut lab = alpha_serves(bench)?;
    lab.plug(ALPHA, RED, false)?;
    anyhow::ensure!(
        !carrier(lab.server(ALPHA).netns(), "eth0")?,
        "eth0 of alpha has lost its carrier"
    );
    anyhow::ensure!(
        carrier(lab.server(ALPHA).netns(), "eth1")?,
        "eth1 of alpha has not"
    );
    anyhow::ensure!(carrier(lab.server(BETA).netns(), "eth0")?, "beta has not");
    let from = Stamp::now();
    run_on(500);
    let report = lab.report(from, from);
    anyhow::ensure!(
        report.vips[RED].lost > 0 && report.vips[RED].lost == report.vips[RED].sent,
        "{report:?}"
    );
    anyhow::ensure!(
        report.vips[BLUE].lost == 0 && report.lost_on_all == 0,
        "{report:?}"
    );
    let plugged = lab.plug(ALPHA, RED, true)?;
    with_logs(&lab, lab.until_served_by(ALPHA, plugged.done, false, LIMIT))
}

fn a_dead_switch_takes_every_carrier_of_its_network(bench: &Bench) -> anyhow::Result<()> {
    let mut lab = alpha_serves(bench)?;
    lab.power_switches(&[RED], false)?;
    for server in [ALPHA, BETA] {
        anyhow::ensure!(!carrier(lab.server(server).netns(), "eth0")?, "red is dead");
        anyhow::ensure!(carrier(lab.server(server).netns(), "eth1")?, "blue lives");
    }
    anyhow::ensure!(
        !carrier(Some(lab.client_netns()), "eth0")?,
        "the client's too"
    );
    // For long enough that what the client cannot send would fill its socket.
    let from = Stamp::now();
    run_on(1200);
    let report = lab.report(from, from);
    anyhow::ensure!(
        report.lost_on_all == 0 && report.vips[BLUE].lost == 0,
        "{report:?}"
    );
    // A cable pulled and a server switched on meanwhile do not bring a carrier of a dead switch.
    lab.plug(BETA, RED, false)?;
    lab.plug(BETA, RED, true)?;
    anyhow::ensure!(
        !carrier(lab.server(BETA).netns(), "eth0")?,
        "no carrier from a dead switch"
    );
    let from = Stamp::now();
    run_on(300);
    let on = lab.power_switches(&[RED], true)?;
    with_logs(&lab, lab.until_served_by(ALPHA, on.done, false, LIMIT))?;
    run_on(300);
    let report = lab.report(from, on.began);
    anyhow::ensure!(
        report.lost_on_all == 0 && report.gap_ms.is_none(),
        "blue served meanwhile: {report:?}"
    );
    anyhow::ensure!(alpha_asks_beta(&lab, RED, LIMIT)? == by_beta());
    Ok(())
}

fn a_hanging_switch_keeps_the_carriers(bench: &Bench) -> anyhow::Result<()> {
    let mut lab = alpha_serves(bench)?;
    lab.hang_switch(RED, true)?;
    anyhow::ensure!(
        carrier(lab.server(ALPHA).netns(), "eth0")?,
        "the carrier stays"
    );
    anyhow::ensure!(alpha_asks_beta(&lab, RED, SILENT)? == Reply::Silence);
    anyhow::ensure!(alpha_asks_beta(&lab, BLUE, LIMIT)? == by_beta());
    let mended = lab.hang_switch(RED, false)?;
    with_logs(&lab, lab.until_served_by(ALPHA, mended.done, false, LIMIT))
}

fn a_layer_2_hole_separates_servers_and_nobody_else(bench: &Bench) -> anyhow::Result<()> {
    let mut lab = alpha_serves(bench)?;
    anyhow::ensure!(alpha_asks_beta(&lab, RED, LIMIT)? == by_beta());
    lab.hole(RED, &[ALPHA, BETA])?;
    anyhow::ensure!(
        alpha_asks_beta(&lab, RED, SILENT)? == Reply::Silence,
        "alpha does not reach beta on red"
    );
    anyhow::ensure!(
        alpha_asks_beta(&lab, BLUE, LIMIT)? == by_beta(),
        "but on blue"
    );
    for (server, name) in [(ALPHA, "alpha"), (BETA, "beta")] {
        let address = lab.plan().server_addresses(server, RED)[0].0;
        anyhow::ensure!(
            ask(lab.client_netns(), address, LIMIT)? == Reply::By(name.into()),
            "the client reaches {name}"
        );
    }
    lab.hole(RED, &[])?;
    anyhow::ensure!(alpha_asks_beta(&lab, RED, LIMIT)? == by_beta(), "mended");
    Ok(())
}

fn a_killed_program_leaves_its_kernel_alive(bench: &Bench) -> anyhow::Result<()> {
    let lab = alpha_serves(bench)?;
    let address = lab.plan().server_addresses(BETA, RED)[0].0;
    anyhow::ensure!(lab.kill_program(BETA, "no-such-program").is_err());
    let service = HELPER.rsplit('/').next().unwrap_or(HELPER);
    lab.kill_program(BETA, service)?;
    lab.until(
        "beta's kernel refuses",
        LIMIT,
        Duration::from_millis(10),
        |lab| match ask(lab.client_netns(), address, Duration::from_millis(50)) {
            Ok(Reply::Refused) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )?;
    anyhow::ensure!(lab.server(BETA).is_on());
    Ok(())
}

fn the_disk_outlives_a_power_off_and_memory_does_not(bench: &Bench) -> anyhow::Result<()> {
    let mut lab = alpha_serves(bench)?;
    let places = ["/etc/haarb", "/var/lib/haarb", "/srv", "/run", "/tmp"];
    for place in places {
        let done = sh(&lab, ALPHA, &format!("echo here > {place}/mark"))?;
        anyhow::ensure!(done.status == 0, "{done:?}");
    }
    let mac = |lab: &Segment| {
        sh(lab, ALPHA, "cat /sys/class/net/eth0/address").map(|output| output.stdout)
    };
    let before = mac(&lab)?;
    lab.power_off(ALPHA)?;
    anyhow::ensure!(
        sh(&lab, ALPHA, "true").is_err(),
        "a server without power runs nothing"
    );
    anyhow::ensure!(
        lab.power_off(ALPHA).is_err(),
        "and cannot be switched off again"
    );
    let on = lab.power_on(ALPHA)?;
    let found = sh(
        &lab,
        ALPHA,
        &format!(
            "ls {} 2>/dev/null",
            places.map(|place| format!("{place}/mark")).join(" ")
        ),
    )?;
    let found: Vec<&str> = found.stdout.lines().collect();
    anyhow::ensure!(
        found == ["/etc/haarb/mark", "/srv/mark", "/var/lib/haarb/mark"],
        "{found:?}"
    );
    anyhow::ensure!(
        mac(&lab)? == before && !before.is_empty(),
        "the network card is the same one"
    );
    anyhow::ensure!(
        lab.holders(lab.plan().vips[0].address).is_empty(),
        "no virtual IP came back by itself"
    );
    take_all(&lab, ALPHA)?;
    with_logs(&lab, lab.until_served_by(ALPHA, on.done, false, LIMIT))
}

fn a_server_has_its_own_processes_name_and_files(bench: &Bench) -> anyhow::Result<()> {
    let lab = alpha_serves(bench)?;
    let output = sh(
        &lab,
        BETA,
        "cat /proc/sys/kernel/hostname; echo $$; ls /proc | grep -c '^[0-9]'; ls /home; exit 3",
    )?;
    let lines: Vec<&str> = output.stdout.lines().collect();
    anyhow::ensure!(
        output.status == 3 && lines.first() == Some(&"beta"),
        "{output:?}"
    );
    let numbers: Vec<u32> = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.parse().ok())
        .collect();
    anyhow::ensure!(
        numbers.len() == 2 && numbers[0] < 100 && numbers[1] < 10,
        "few processes, low numbers: {output:?}"
    );
    anyhow::ensure!(
        lines.len() == 3,
        "nothing of the machine's /home: {output:?}"
    );
    anyhow::ensure!(
        sh(&lab, BETA, "echo x > /usr/haarb-was-here")?.status != 0,
        "/usr is the machine's, and read-only"
    );
    anyhow::ensure!(
        lab.server(BETA).processes()?.len() >= 2,
        "init and the service"
    );
    let slow = lab.run(
        BETA,
        &["/bin/sh", "-c", "sleep 60"],
        Duration::from_millis(300),
    );
    anyhow::ensure!(slow.is_err(), "a command that does not end is ended");
    Ok(())
}

fn the_file_history_survives_a_power_off_whole(bench: &Bench) -> anyhow::Result<()> {
    let boot = |plan: &haarb_lab::plan::Plan, server| {
        let mut boot = haarb_lab::fake::boot_service(plan, server);
        boot[0]
            .argv
            .extend(["--write-dir".to_owned(), "/srv".to_owned()]);
        boot
    };
    let plan = haarb_lab::plan::Plan::pair();
    let mut lab = Segment::build(plan, bench.dir(), bench.programs()?, boot)?;
    let srv = lab.server(ALPHA).disk().join("srv");
    let written = |lab: &Segment, least: u64| {
        lab.until(
            "versions are written",
            LIMIT,
            Duration::from_millis(10),
            |_| {
                let found = history::inspect(&srv).map_err(|error| error.to_string())?;
                match &found.log_last {
                    Some(version) if version.number >= least => Ok(version.number),
                    _ => Err(format!("{found:?}")),
                }
            },
        )
    };
    lab.power_on(ALPHA)?;
    let number = with_logs(&lab, written(&lab, 5))?;
    lab.power_off(ALPHA)?;
    lab.power_on(ALPHA)?;
    let later = with_logs(&lab, written(&lab, number + 20))?;
    lab.power_off(ALPHA)?;
    let found = history::inspect(&srv)?;
    anyhow::ensure!(
        !found.state_torn && found.log_torn <= 2 && found.log_missing <= 2,
        "{found:?}"
    );
    anyhow::ensure!(
        found.state.is_some_and(|version| version.number >= later),
        "the numbers go on"
    );
    Ok(())
}

/// Part of the requests to one address that was answered, and the shortest way there and back.
fn answered_on(lab: &Segment, vip: usize, ms: u64) -> (f64, f64) {
    let from = Stamp::now();
    run_on(ms);
    let to = Stamp::now();
    run_on(400); // what is under way arrives
    let trace = lab.client().cut(from, to);
    let answers: Vec<f64> = trace
        .ticks(from, to)
        .filter_map(|tick| {
            tick.answer(vip)
                .map(|seen| seen.received.ms_since(tick.sent()))
        })
        .collect();
    let part = answers.len() as f64 / trace.ticks(from, to).count().max(1) as f64;
    (part, answers.into_iter().fold(f64::INFINITY, f64::min))
}

fn a_bad_cable_loses_and_delays_as_asked(bench: &Bench) -> anyhow::Result<()> {
    let mut lab = alpha_serves(bench)?;
    let loses = |loss| Flaws {
        loss,
        ..Flaws::default()
    };
    let cable = BadCable {
        to_machine: loses(0.5),
        ..BadCable::default()
    };
    lab.spoil(ALPHA, RED, Some(cable))?;
    let (red, _) = answered_on(&lab, RED, 1000);
    let (blue, _) = answered_on(&lab, BLUE, 200);
    anyhow::ensure!(
        (0.4..0.6).contains(&red),
        "half of the requests get through: {red}"
    );
    anyhow::ensure!(blue > 0.99, "the other cable is good: {blue}");

    let delay = Flaws {
        delay: Duration::from_millis(20),
        ..Flaws::default()
    };
    lab.spoil(ALPHA, RED, Some(BadCable::both_ways(delay)))?;
    let (red, shortest) = answered_on(&lab, RED, 300);
    anyhow::ensure!(
        red > 0.9 && shortest >= 40.0,
        "20 ms each way: {red}, {shortest} ms"
    );

    // One-way loss: alpha hears and is not heard.
    lab.spoil(
        ALPHA,
        RED,
        Some(BadCable {
            from_machine: loses(1.0),
            ..BadCable::default()
        }),
    )?;
    let (red, _) = answered_on(&lab, RED, 200);
    anyhow::ensure!(red == 0.0, "no answer comes back: {red}");

    // Pulled and plugged in, a bad cable is still bad; mended, it is good.
    lab.plug(ALPHA, RED, false)?;
    anyhow::ensure!(
        !carrier(lab.server(ALPHA).netns(), "eth0")?,
        "no carrier on a pulled cable"
    );
    lab.plug(ALPHA, RED, true)?;
    lab.spoil(ALPHA, RED, Some(cable))?;
    let mended = lab.spoil(ALPHA, RED, None)?;
    with_logs(&lab, lab.until_served_by(ALPHA, mended.done, false, LIMIT))?;
    let (red, _) = answered_on(&lab, RED, 300);
    anyhow::ensure!(red > 0.99, "mended: {red}");
    Ok(())
}

fn a_dead_server_stays_dead_when_its_switch_returns(bench: &Bench) -> anyhow::Result<()> {
    let mut lab = alpha_serves(bench)?;
    lab.power_off(ALPHA)?;
    lab.power_switches(&[RED, BLUE], false)?;
    lab.power_switches(&[RED, BLUE], true)?;
    lab.plug(ALPHA, RED, false)?;
    lab.plug(ALPHA, RED, true)?;
    let address = lab.plan().server_addresses(ALPHA, RED)[0].0;
    anyhow::ensure!(alpha_is_gone(&lab, address)?, "not even its kernel answers");
    Ok(())
}

/// Nothing, or the client's own kernel saying that nobody has the address.
fn alpha_is_gone(lab: &Segment, address: std::net::IpAddr) -> anyhow::Result<bool> {
    Ok(ask(lab.client_netns(), address, SILENT)? == Reply::Silence)
}

fn a_switch_keeps_its_hardware_address(bench: &Bench) -> anyhow::Result<()> {
    let mut lab = alpha_serves(bench)?;
    for _ in 0..2 {
        lab.power_off(ALPHA)?;
        lab.power_on(ALPHA)?;
        let mut netlink = lab.switch(RED).netns().netlink()?;
        let bridge = netlink.index_of(lab.switch(RED).name())?;
        let mac = netlink.mac_of(bridge)?;
        anyhow::ensure!(mac == Some(lab.plan().switch_mac(RED)), "{mac:?}");
    }
    Ok(())
}
