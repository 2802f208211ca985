//! Optimizers of other libraries, each in a process of its own.

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use benches::contestants::contestants;
use benches::protocol::{Hello, Offer, Reply, Request, send};
use benches::record::Setting;
use benches::sampling::Subject;

use crate::args::Args;

/// How long threads of other libraries may spin before they sleep.
const SPIN: Duration = Duration::from_millis(15);

/// The processes.
#[derive(Debug)]
pub(crate) struct Peers(Vec<Rc<RefCell<Peer>>>);

/// One process.
#[derive(Debug)]
struct Peer {
    hello: Hello,
    child: Child,
    /// Closing it ends the process.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// One optimizer in such a process, with its own weights.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Its name in results.
    pub(crate) name: String,
    subject: usize,
    peer: Rc<RefCell<Peer>>,
}

/// The environment variables in which libraries read their number of threads.
const THREAD_COUNTS: [&str; 4] = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"];

impl Peers {
    /// Starts the requested processes, with this many threads each.
    pub(crate) fn start(args: &Args, threads: usize) -> anyhow::Result<Self> {
        Self::of(commands(args).into_iter().map(|mut command| {
            command.envs(THREAD_COUNTS.map(|name| (name, threads.to_string())));
            command
        }))
    }

    /// The processes of these commands.
    pub(crate) fn of(commands: impl IntoIterator<Item = Command>) -> anyhow::Result<Self> {
        let peers = commands.into_iter().map(|mut command| {
            let peer = Peer::start(&mut command).with_context(|| format!("peer {command:?}"))?;
            Ok(Rc::new(RefCell::new(peer)))
        });
        Ok(Self(peers.collect::<anyhow::Result<_>>()?))
    }

    /// Opens every optimizer that corresponds to our contestant. One that cannot be opened is left out with a
    /// message.
    pub(crate) fn open(&self, setting: &Setting<'_>) -> anyhow::Result<Vec<Guest>> {
        let mut guests = Vec::new();
        for peer in &self.0 {
            let offers: Vec<Offer> = peer.borrow().offers(setting).cloned().collect();
            for offer in offers {
                match Guest::open(peer, &offer, setting) {
                    Ok(guest) => guests.push(guest),
                    Err(error) => eprintln!("{}: left out: {error:#}", offer.name),
                }
            }
        }
        Ok(guests)
    }
}

fn commands(args: &Args) -> Vec<Command> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let rust = args.peers.iter().flat_map(|program| {
        ["burn", "opt-burn", "candle", "opt-candle", "candle-optimisers"].map(|name| {
            let mut command = Command::new(program);
            command.arg(name);
            command
        })
    });
    let python = args.python.iter().flat_map(|environment| {
        ["torch_peer.py", "jax_peer.py"].map(|script| {
            let mut command = Command::new(environment.join("bin").join("python"));
            command.arg(scripts.join(script));
            command
        })
    });
    rust.chain(python).collect()
}

impl Peer {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let hello = Hello { name: String::new(), contestants: Vec::new() };
        let mut peer = Self { hello, child, input, output };
        match peer.receive()? {
            Reply::Hello(hello) => peer.hello = hello,
            other => return Err(other.unexpected()),
        }
        let known = contestants::<f32>();
        let is_known = |offer: &&Offer| known.iter().any(|contestant| contestant.name == offer.rule);
        match peer.hello.contestants.iter().find(|offer| !is_known(offer)) {
            Some(offer) => bail!("{:?} is said to be like {:?}, which is no contestant", offer.name, offer.rule),
            None => Ok(peer),
        }
    }

    fn offers(&self, setting: &Setting<'_>) -> impl Iterator<Item = &Offer> {
        let fits = |offer: &&Offer| offer.max_tensors.is_none_or(|most| setting.shape.tensors.len() <= most);
        self.hello.contestants.iter().filter(|offer| offer.rule == setting.rule).filter(fits)
    }

    fn ask(&mut self, request: &Request) -> anyhow::Result<Reply> {
        let input = self.input.as_mut().context("the process has been told to end")?;
        send(input, request).with_context(|| format!("{} does not listen", self.hello.name))?;
        self.receive()
    }

    fn receive(&mut self) -> anyhow::Result<Reply> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the process of {:?} has ended: {}", self.hello.name, self.child.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("no reply: {line:?}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A peer ends when its input ends.
        self.input = None;
        if let Err(error) = self.child.wait() {
            eprintln!("{}: {error}", self.hello.name);
        }
    }
}

impl Guest {
    fn open(peer: &Rc<RefCell<Peer>>, offer: &Offer, setting: &Setting<'_>) -> anyhow::Result<Self> {
        let request = Request::Open {
            contestant: offer.id.clone(),
            tensors: setting.shape.tensors.clone(),
            threads: setting.threads,
        };
        let reply = peer.borrow_mut().ask(&request)?;
        let Reply::Opened { subject } = reply else { return Err(reply.unexpected()) };
        let name = format!("{}: {}", peer.borrow().hello.name, offer.name);
        Ok(Self { name, subject, peer: Rc::clone(peer) })
    }
}

impl Subject for Guest {
    fn run(&mut self, steps: usize) -> anyhow::Result<Duration> {
        let reply = self.peer.borrow_mut().ask(&Request::Run { subject: self.subject, steps })?;
        reply.into_duration().with_context(|| self.name.clone())
    }

    fn settle(&self) {
        thread::sleep(SPIN);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Err(error) = self.peer.borrow_mut().ask(&Request::Close { subject: self.subject }) {
            eprintln!("{}: {error:#}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_peer_is_refused() {
        for (words, message) in [
            ("true", "has ended"),
            ("echo hello", "no reply"),
            (r#"echo {"hello":{"name":"a","contestants":[{"id":"b","rule":"adagrad","name":"c"}]}}"#, "no contestant"),
            (r#"echo {"closed":{}}"#, "unexpected reply"),
            ("no-such-program-anywhere", "No such file"),
        ] {
            let (program, argument) = words.split_once(' ').unwrap_or((words, ""));
            let error = format!("{:#}", Peer::start(Command::new(program).arg(argument)).unwrap_err());
            assert!(error.contains(message), "{words}: {error}");
        }
    }
}
