//! What the client has seen: one row per tick, kept for a bounded time.
//!
//! A row says when the questions of a tick left and, for every question, who answered and when. The
//! trace only records; [`crate::analysis`] judges. Rows are kept for [`KEEP_TICKS`] ticks, so that a lab
//! that runs for days does not grow.

use std::{
    collections::VecDeque,
    io::{self, Write},
};

use crate::{
    clock::Stamp,
    plan::{Plan, ServerId, VipId},
};

/// Rows that are kept: twelve minutes at one tick per millisecond, so that a drill of ten minutes is
/// whole.
pub const KEEP_TICKS: usize = 720_000;

/// An answer to one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Who answered.
    pub server: ServerId,
    /// When the service on that server answered.
    pub answered: Stamp,
    /// When the answer reached the client (kernel timestamp).
    pub received: Stamp,
}

/// Compact form of [`Seen`]: a minute of ticks holds 360,000 of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    answered: u64,
    received: u64,
    server: u16,
}

const EMPTY: Cell = Cell {
    answered: 0,
    received: 0,
    server: u16::MAX,
};

/// One tick.
#[derive(Debug, Clone)]
struct Row {
    sent: Stamp,
    late_ns: u64,
    cells: Box<[Cell]>,
}

/// A row as the analysis sees it.
#[derive(Debug, Clone, Copy)]
pub struct Tick<'a> {
    row: &'a Row,
    vips: usize,
}

/// An answer that does not fit the rows: it came after its row was gone, or is a second answer to the
/// same question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stray {
    /// The virtual IP asked.
    pub vip: VipId,
    /// The answer.
    pub seen: Seen,
}

/// The record of one client.
#[derive(Debug, Clone)]
pub struct Trace {
    vips: usize,
    servers: usize,
    first: u64,
    rows: VecDeque<Row>,
    strays: VecDeque<Stray>,
}

impl Trace {
    /// An empty trace for `vips` virtual IPs and `servers` servers.
    #[must_use]
    pub const fn new(vips: usize, servers: usize) -> Self {
        Self {
            vips,
            servers,
            first: 0,
            rows: VecDeque::new(),
            strays: VecDeque::new(),
        }
    }

    /// Number of virtual IPs.
    #[must_use]
    pub const fn vips(&self) -> usize {
        self.vips
    }

    /// Number of servers.
    #[must_use]
    pub const fn servers(&self) -> usize {
        self.servers
    }

    /// Opens the row of the next tick and returns its number. `late_ns`: how late the timer woke us.
    pub fn begin(&mut self, sent: Stamp, late_ns: u64) -> u64 {
        if self.rows.len() == KEEP_TICKS {
            self.rows.pop_front();
            self.first += 1;
        }
        let cells = vec![EMPTY; self.vips * (1 + self.servers)].into_boxed_slice();
        self.rows.push_back(Row {
            sent,
            late_ns,
            cells,
        });
        self.first + self.rows.len() as u64 - 1
    }

    /// Notes an answer to the question `number` for `vip`; `probe` names the server that was asked
    /// directly, `None` an ordinary request.
    pub fn note(&mut self, number: u64, vip: VipId, probe: Option<ServerId>, seen: Seen) {
        if vip >= self.vips || probe.is_some_and(|server| server >= self.servers) {
            return;
        }
        let slot = probe.map_or(vip, |server| self.vips * (1 + server) + vip);
        let row = number
            .checked_sub(self.first)
            .and_then(|at| self.rows.get_mut(usize::try_from(at).ok()?));
        match row.map(|row| &mut row.cells[slot]) {
            Some(cell) if *cell == EMPTY => {
                *cell = Cell {
                    answered: seen.answered.0,
                    received: seen.received.0,
                    server: u16::try_from(seen.server).unwrap_or(u16::MAX - 1),
                };
            }
            _ => {
                if self.strays.len() == 10_000 {
                    self.strays.pop_front();
                }
                self.strays.push_back(Stray { vip, seen });
            }
        }
    }

    /// The ticks that began in `from..=to`, in order.
    pub fn ticks(&self, from: Stamp, to: Stamp) -> impl Iterator<Item = Tick<'_>> + Clone {
        let start = self.rows.partition_point(|row| row.sent < from);
        self.rows
            .range(start..)
            .take_while(move |row| row.sent <= to)
            .map(|row| Tick {
                row,
                vips: self.vips,
            })
    }

    /// Answers outside of the rows, received in `from..=to`.
    pub fn strays(&self, from: Stamp, to: Stamp) -> impl Iterator<Item = Stray> + '_ {
        self.strays
            .iter()
            .copied()
            .filter(move |stray| (from..=to).contains(&stray.seen.received))
    }

    /// A copy of the rows and strays of `from..=to` alone, for judging while the client goes on.
    #[must_use]
    pub fn cut(&self, from: Stamp, to: Stamp) -> Self {
        let start = self.rows.partition_point(|row| row.sent < from);
        let end = self.rows.partition_point(|row| row.sent <= to).max(start);
        Self {
            vips: self.vips,
            servers: self.servers,
            first: self.first + start as u64,
            rows: self.rows.range(start..end).cloned().collect(),
            strays: self.strays(from, to).collect(),
        }
    }
}

impl Trace {
    /// Every row as comma-separated text for other programs: milliseconds since `zero`, how late the
    /// timer was, then for every request and direct question who answered and after how many
    /// milliseconds (empty: nobody).
    ///
    /// # Errors
    /// As `out` fails.
    pub fn write_csv(&self, out: &mut impl Write, zero: Stamp, plan: &Plan) -> io::Result<()> {
        let asked = |vip: VipId| plan.vips[vip].address;
        write!(out, "ms,late")?;
        for vip in 0..self.vips {
            write!(out, ",{} by,after", asked(vip))?;
        }
        for server in &plan.servers {
            for vip in 0..self.vips {
                write!(out, ",{server} asked for {}", asked(vip))?;
            }
        }
        writeln!(out)?;
        for tick in self.ticks(Stamp(0), Stamp(u64::MAX)) {
            write!(
                out,
                "{:.3},{:.3}",
                tick.sent().ms_since(zero),
                tick.late_ms()
            )?;
            let after = |seen: Seen| seen.received.ms_since(tick.sent());
            for vip in 0..self.vips {
                match tick.answer(vip) {
                    Some(seen) => write!(out, ",{},{:.3}", plan.servers[seen.server], after(seen))?,
                    None => write!(out, ",,")?,
                }
            }
            for server in 0..self.servers {
                for vip in 0..self.vips {
                    match tick.probe(server, vip) {
                        Some(seen) => write!(out, ",{:.3}", after(seen))?,
                        None => write!(out, ",")?,
                    }
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

impl Tick<'_> {
    /// When the questions left.
    #[must_use]
    pub const fn sent(&self) -> Stamp {
        self.row.sent
    }

    /// How late the client's timer woke it, in milliseconds.
    #[must_use]
    pub fn late_ms(&self) -> f64 {
        self.row.late_ns as f64 / 1e6
    }

    /// The answer to the client's request for `vip`.
    #[must_use]
    pub fn answer(&self, vip: VipId) -> Option<Seen> {
        self.cell(vip)
    }

    /// The answer of `server`, asked directly for `vip`.
    #[must_use]
    pub fn probe(&self, server: ServerId, vip: VipId) -> Option<Seen> {
        self.cell(self.vips * (1 + server) + vip)
    }

    fn cell(&self, slot: usize) -> Option<Seen> {
        let cell = self.row.cells.get(slot)?;
        (*cell != EMPTY).then_some(Seen {
            server: cell.server.into(),
            answered: Stamp(cell.answered),
            received: Stamp(cell.received),
        })
    }
}
