//! The cores of the simulated process: the real mailboxes with the real outlets, and around them the loops of `io/core.rs`
//! and `control/mod.rs`. A core looks into its mailbox when the simulator lets it; what a sender posts keeps its order.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use rainbow_server::config::Config;
use rainbow_server::engine::command::{Command, Report, Target};
use rainbow_server::engine::ids::ShardId;
use rainbow_server::engine::mailbox::{Receiver, Wake, mailbox};
use rainbow_server::engine::outlets;
use rainbow_server::limits::{self, MAILBOX_BATCH};
use rainbow_server::metrics::CoreMetrics;
use rainbow_server::shard::Shard;
use rainbow_server::shard::turn::{self, Length, Mail as Left, Shell, Turned};
use rainbow_server::time::Instant;

use crate::bugs::Bug;
use crate::net::Net;
use crate::plan::{Plan, STALL_MAX};
use crate::world::{Event, World};

/// Pause of a reader while mail of its core waits for room, in microseconds.
pub const CONGESTION_PAUSE: u64 = limits::CONGESTION_PAUSE.as_micros() as u64;

/// To a shard.
pub enum Mail {
    /// A command, and the changes it will have made (indices into [`Records::changes`](crate::records::Records)).
    Command(Command, Vec<usize>),
    /// The settings of the plan with this number are in force.
    Reload(usize),
}

/// To the control core.
pub struct Told {
    pub report: Report,
    /// `forward_window` of the shard when it reported.
    pub window: usize,
}

/// Wakes a core: the simulator looks at it after each event.
#[derive(Clone, Default)]
pub struct Bell(Rc<Cell<bool>>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.set(true);
    }
}

type Outlets = outlets::Outlets<Mail, Told, Bell>;

/// One core: its mailbox, its way to the others.
pub struct Core<T> {
    mailbox: Receiver<T>,
    pub outlets: Outlets,
    bell: Bell,
    run_planned: bool,
    /// It stands still until then.
    stalled: u64,
    /// What it does with sockets once its mail has found room.
    put_off: Vec<Event>,
    /// Changes it has made and not told everybody of, since its mail waits for room.
    made: Vec<usize>,
}

pub struct Cores {
    pub shards: Vec<Core<Mail>>,
    pub control: Core<Told>,
    /// The settings in force, by shard: numbers of the plan.
    pub in_force: Vec<usize>,
    /// A way past the queue of a core's outlets, for [`Bug::Overtake`].
    express: Outlets,
    /// Most mail that waited in the outlets of one core.
    pub overflow_max: usize,
    /// Times a socket was not read because of it.
    pub congested: u64,
}

impl Cores {
    pub fn new(plan: &Plan, metrics: &[Arc<CoreMetrics>]) -> Self {
        let bells: Vec<_> = (0..=plan.shards).map(|_| Bell::default()).collect();
        let (control_bell, shard_bells) = bells.split_last().expect("the control core's");
        let shard_mail: Vec<_> = shard_bells
            .iter()
            .map(|bell| mailbox(plan.mailbox, bell.clone()))
            .collect();
        let (control, told) = mailbox(plan.mailbox, control_bell.clone());
        let (senders, receivers): (Vec<_>, Vec<_>) = shard_mail.into_iter().unzip();
        let all = Outlets::new(senders, control);
        let core = |bell: &Bell| all.clone().of_core(bell.clone());
        let shards = receivers.into_iter().zip(shard_bells).zip(metrics);
        let shards = shards.map(|((mailbox, bell), metrics)| Core {
            mailbox,
            outlets: core(bell).counted(metrics.clone()),
            bell: bell.clone(),
            run_planned: false,
            stalled: 0,
            put_off: Vec::new(),
            made: Vec::new(),
        });
        Self {
            shards: shards.collect(),
            control: Core {
                mailbox: told,
                outlets: core(control_bell),
                bell: control_bell.clone(),
                run_planned: false,
                stalled: 0,
                put_off: Vec::new(),
                made: Vec::new(),
            },
            in_force: vec![0; plan.shards],
            express: all.clone(),
            overflow_max: 0,
            congested: 0,
        }
    }

    /// Nothing waits anywhere.
    pub fn are_empty(&self) -> bool {
        let empty = |outlets: &Outlets, waits: usize| outlets.overflow() == 0 && waits == 0;
        empty(&self.control.outlets, self.control.mailbox.len())
            && self.shards.iter().all(|core| empty(&core.outlets, core.mailbox.len()))
    }
}

/// A shard of the world in its turn.
struct Turning<'a> {
    world: &'a mut World,
    shard: usize,
}

impl Shell for Turning<'_> {
    type Sockets = Net;

    fn shard(&mut self) -> (&mut Shard, &mut Net) {
        (&mut self.world.shards[self.shard], &mut self.world.nets[self.shard])
    }

    fn post(&mut self) {
        self.world.collect(self.shard);
    }

    fn is_congested(&self) -> bool {
        self.world.cores.shards[self.shard].outlets.overflow() > 0 && self.world.bug != Some(Bug::Uncork)
    }
}

impl World {
    /// The control core posts a command.
    pub fn post(&mut self, target: ShardId, command: Command, changes: Vec<usize>) {
        self.post_mail(None, target, Mail::Command(command, changes));
        self.cores.control.outlets.kick();
    }

    /// Posts for a shard or the control core, without a kick.
    pub fn post_mail(&mut self, from: Option<usize>, target: ShardId, mail: Mail) {
        for mail in Bug::tamper_mail(self, from, target, mail) {
            let outlets = match from {
                Some(shard) => &mut self.cores.shards[shard].outlets,
                None => &mut self.cores.control.outlets,
            };
            outlets.post_shard(target, mail);
        }
    }

    /// New settings: the control core tells all shards.
    pub fn reload(&mut self, settings: usize) {
        for shard in 0..self.plan.shards {
            self.post_mail(None, ShardId(shard as u16), Mail::Reload(settings));
        }
        self.cores.control.outlets.kick();
    }

    /// All cores begin awake, and find nothing.
    pub fn start_cores(&mut self) {
        (0..self.plan.shards).for_each(|shard| self.plan_run(shard));
        self.plan_control();
    }

    /// After each event: who was woken.
    pub fn answer_bells(&mut self) {
        for shard in 0..self.plan.shards {
            if self.cores.shards[shard].bell.0.take() && !self.strikes(Bug::SleepOn, 1) {
                self.plan_run(shard);
            }
        }
        if self.cores.control.bell.0.take() {
            self.plan_control();
        }
    }

    pub fn plan_run(&mut self, shard: usize) {
        let core = &mut self.cores.shards[shard];
        if !std::mem::replace(&mut core.run_planned, true) {
            let delay = if self.rng.chance(3) {
                self.rng.within(0, 150_000)
            } else {
                self.rng.within(1, 1500)
            };
            self.plan_in(delay, Event::Run(shard));
        }
    }

    fn plan_control(&mut self) {
        if !std::mem::replace(&mut self.cores.control.run_planned, true) {
            let delay = self.rng.within(1, 2000);
            self.plan_in(delay, Event::Control);
        }
    }

    /// A core stands still, as one that has lost its processor.
    pub fn stall(&mut self, core: usize, until: u64) {
        match self.cores.shards.get_mut(core) {
            Some(shard) => shard.stalled = until,
            None => self.cores.control.stalled = until,
        }
    }

    /// Plans an event of a shard again if its core stands still.
    pub fn is_stalled(&mut self, shard: usize, event: Event) -> bool {
        let until = self.cores.shards[shard].stalled;
        let stalled = until > self.now.as_micros();
        if stalled {
            self.plan_at(until, event);
            if let Event::Tick(_) = event {
                self.tick_planned[shard] = Some(until);
            }
        }
        stalled
    }

    /// Puts an event of a socket off while mail of its core waits for room.
    pub fn is_congested(&mut self, shard: usize, event: Event) -> bool {
        let core = &mut self.cores.shards[shard];
        let congested = core.outlets.overflow() > 0;
        if congested {
            core.put_off.push(event);
            self.cores.congested += 1;
        }
        congested
    }

    /// One turn, as in the shell.
    pub fn turn<R>(&mut self, shard: usize, call: impl FnOnce(&mut Shard, &mut Net, Instant) -> R) -> R {
        self.turn_of(Length::Short, shard, call)
    }

    fn turn_of<R>(&mut self, length: Length, shard: usize, call: impl FnOnce(&mut Shard, &mut Net, Instant) -> R) -> R {
        let now = self.now;
        let Turned { result, more } = turn::turn(&mut Turning { world: self, shard }, length, now, call);
        assert_eq!(self.shards[shard].debug_panics(), 0, "a panic was contained, see above");
        if more {
            self.plan_run(shard);
        }
        self.plan_tick(shard);
        self.look_at_sockets(shard);
        result
    }

    /// Posts what a shard left for others.
    fn collect(&mut self, shard: usize) {
        let Left { commands, reports } = self.shards[shard].mail();
        let (commands, reports) = (std::mem::take(commands), std::mem::take(reports));
        for (target, command) in commands {
            self.post_mail(Some(shard), target, Mail::Command(command, Vec::new()));
        }
        let (_, settings) = &self.plan.settings[self.cores.in_force[shard]];
        let window = settings.window.unwrap_or(usize::MAX);
        for report in reports {
            for report in Bug::tamper_report(self, report) {
                let told = Told { report, window };
                if self.cores.shards[shard].outlets.overflow() > 0 && self.strikes(Bug::Overtake, 50) {
                    self.cores.express.post_control(told);
                    self.cores.express.kick();
                } else {
                    self.cores.shards[shard].outlets.post_control(told);
                }
            }
        }
        let core = &mut self.cores.shards[shard];
        core.outlets.kick();
        let overflow = core.outlets.overflow();
        self.cores.overflow_max = self.cores.overflow_max.max(overflow);
        // The worst moment to lose the processor: others have room for mail again, and this core does not know.
        let (now, last) = (self.now.as_micros(), core.stalled);
        if overflow > 0 && !self.plan.stalls.is_empty() && now > last + 1_000_000 && self.rng.chance(50) {
            let until = now + self.rng.within(1, STALL_MAX / 2);
            self.stall(shard, until);
        }
    }

    /// A shard looks into its mailbox.
    pub fn run_shard(&mut self, shard: usize) {
        if self.is_stalled(shard, Event::Run(shard)) {
            return;
        }
        let batch = if self.shards[shard].is_full() {
            0
        } else {
            self.rng.within(1, MAILBOX_BATCH as u64) as usize
        };
        let core = &mut self.cores.shards[shard];
        core.run_planned = false;
        core.mailbox.cancel_sleep();
        let mut mails = Vec::new();
        let handled = core.mailbox.drain(batch, |mail| mails.push(mail));
        if mails.len() > 1 && self.strikes(Bug::Reorder, 20) {
            let at = self.rng.index(mails.len() - 1);
            mails.swap(at, at + 1);
        }
        self.fall_behind(&mut mails);
        self.take_mail(shard, mails);
        let core = &mut self.cores.shards[shard];
        core.outlets.kick();
        let congested = core.outlets.overflow() > 0;
        if !congested {
            self.decongest(shard);
        }
        let core = &mut self.cores.shards[shard];
        if !core.run_planned && (handled == batch || congested || !core.mailbox.prepare_sleep()) {
            self.plan_run(shard);
        }
        if self.planned.is_multiple_of(8) {
            let counts = self.shards[shard].debug_counts();
            self.check_bounds(counts);
        }
    }

    /// For [`Bug::FallBehind`].
    fn fall_behind(&mut self, mails: &mut [Mail]) {
        let is_delivered = |mail: &Mail| match mail {
            Mail::Command(Command::Deliver(publish, _) | Command::Publish(publish), _) => Some(publish.to.clone()),
            _ => None,
        };
        for at in 1..mails.len() {
            let pair = (is_delivered(&mails[at - 1]), is_delivered(&mails[at]));
            if let (Some(Target::Any(_)), Some(_)) = pair
                && self.strikes(Bug::FallBehind, 50)
            {
                mails.swap(at - 1, at);
            }
        }
    }

    fn take_mail(&mut self, shard: usize, mails: Vec<Mail>) {
        let (mut commands, mut changed) = (Vec::new(), Vec::new());
        for mail in mails {
            match mail {
                Mail::Command(command, changes) => {
                    self.trace(|| format!("shard {shard} <- {}", describe(&command)));
                    commands.push(command);
                    changed.extend(changes);
                }
                Mail::Reload(settings) => {
                    self.run_commands(shard, std::mem::take(&mut commands));
                    self.take_settings(shard, settings);
                }
            }
        }
        self.run_commands(shard, commands);
        self.cores.shards[shard].made.extend(changed);
    }

    /// All mail of a core has left: whoever asked for a change may know of it, and sockets have their turn again.
    fn decongest(&mut self, shard: usize) {
        let core = &mut self.cores.shards[shard];
        let (made, put_off) = (std::mem::take(&mut core.made), std::mem::take(&mut core.put_off));
        self.note_made(&made);
        put_off
            .into_iter()
            .for_each(|event| self.plan_in(CONGESTION_PAUSE, event));
    }

    /// Somebody may know now that these changes are made.
    pub fn note_made(&mut self, changes: &[usize]) {
        let seq = self.next_seq();
        for change in changes {
            self.trace(|| format!("change {change} was made"));
            self.records.changes[*change].answered.get_or_insert(seq);
        }
    }

    fn run_commands(&mut self, shard: usize, commands: Vec<Command>) {
        let call = |shard: &mut Shard, net: &mut Net, now| {
            commands
                .into_iter()
                .for_each(|command| shard.on_command(command, now, net));
        };
        self.turn_of(Length::Long, shard, call);
    }

    fn take_settings(&mut self, shard: usize, settings: usize) {
        self.trace(|| format!("shard {shard} takes settings {settings}"));
        self.cores.in_force[shard] = settings;
        if !self.strikes(Bug::SkipReload, 100) {
            let config: Arc<Config> = self.configs[settings].clone();
            self.turn(shard, |shard, _, _| shard.reload(config));
        }
    }

    pub fn run_control(&mut self) {
        let stalled = self.cores.control.stalled;
        if stalled > self.now.as_micros() {
            return self.plan_at(stalled, Event::Control);
        }
        let core = &mut self.cores.control;
        core.run_planned = false;
        core.mailbox.cancel_sleep();
        let mut all = Vec::new();
        let handled = core.mailbox.drain(MAILBOX_BATCH, |told| all.push(told));
        for told in all {
            self.trace(|| format!("control <- {:?}", told.report).chars().take(200).collect());
            self.on_report(told);
        }
        let core = &mut self.cores.control;
        core.outlets.kick();
        let busy = handled == MAILBOX_BATCH || core.outlets.overflow() > 0;
        self.cores.overflow_max = self.cores.overflow_max.max(core.outlets.overflow());
        if !core.run_planned && (busy || !core.mailbox.prepare_sleep()) {
            self.plan_control();
        }
    }

    pub fn plan_tick(&mut self, shard: usize) {
        let Some(deadline) = self.shards[shard].next_deadline() else {
            return;
        };
        let at = deadline.max(self.now).as_micros() + self.rng.within(0, 5_000);
        if self.tick_planned[shard].is_none_or(|planned| at < planned) {
            self.tick_planned[shard] = Some(at);
            self.plan_at(at, Event::Tick(shard));
        }
    }

    pub fn tick(&mut self, shard: usize) {
        let now = self.now.as_micros();
        if self.tick_planned[shard].is_none_or(|planned| planned > now) {
            return; // an earlier timer was set meanwhile
        }
        if self.is_stalled(shard, Event::Tick(shard)) {
            return;
        }
        self.tick_planned[shard] = None;
        while self.turn(shard, |shard, net, now| shard.on_tick(now, net)) {}
    }
}

fn describe(command: &Command) -> String {
    match command {
        Command::Publish(publish) => format!("Publish {:?}", publish.ticket),
        Command::Deliver(publish, _) => format!("Deliver {:?}", publish.ticket),
        other => format!("{other:?}").chars().take(120).collect(),
    }
}
