//! The protocol with contestants in other processes: one JSON object a line, on standard input and output.
//!
//! A peer introduces itself with a [`Hello`], then answers each [`Request`] with one [`Reply`]. It ends when its
//! input ends. All its other output goes to standard error.
//!
//! ```text
//! < {"hello":{"name":"torch 2.15.0","contestants":[{"id":"nadam-foreach","rule":"nadam","name":"NAdam foreach"}]}}
//! > {"open":{"contestant":"nadam-foreach","tensors":[[64,3,7,7],[64]],"threads":2}}
//! < {"opened":{"subject":1}}
//! > {"run":{"subject":1,"steps":6}}
//! < {"ran":{"ns":123456}}
//! > {"close":{"subject":1}}
//! < {"closed":{}}
//! ```

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first message of a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The library of these optimizers, with its version.
    pub name: String,
    /// The optimizers.
    pub contestants: Vec<Offer>,
}

/// An optimizer of a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Its identifier in requests.
    pub id: String,
    /// Our corresponding contestant.
    pub rule: String,
    /// Its name in results.
    pub name: String,
    /// The largest number of tensors on which it can be timed, if there is a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tensors: Option<usize>,
}

/// A request to a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Makes weights, gradients and an optimizer.
    Open {
        /// The [`Offer::id`].
        contestant: String,
        /// The shape of each tensor; all tensors are of 32-bit numbers.
        tensors: Vec<Vec<usize>>,
        /// The number of threads.
        threads: usize,
    },
    /// Runs steps, one after the other, and times them together.
    Run {
        /// The number that [`Reply::Opened`] gave.
        subject: usize,
        /// The number of steps.
        steps: usize,
    },
    /// Drops weights, gradients and optimizer.
    Close {
        /// The number that [`Reply::Opened`] gave.
        subject: usize,
    },
}

/// A reply of a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// The first message.
    Hello(Hello),
    /// To [`Request::Open`].
    Opened {
        /// The number of the optimizer in further requests.
        subject: usize,
    },
    /// To [`Request::Run`].
    Ran {
        /// The nanoseconds of all steps together.
        ns: u64,
    },
    /// To [`Request::Close`].
    Closed {},
    /// An error.
    Error {
        /// The message.
        message: String,
    },
}

/// One step of an open optimizer.
pub type StepFn = Box<dyn FnMut() -> anyhow::Result<()>>;

/// Answers requests until the input ends. `open` makes the step of a contestant over weights of these shapes, on this
/// many threads.
///
/// # Errors
///
/// When input or output fail, or a line is not a request. All other errors are sent as replies.
pub fn serve(
    hello: Hello,
    open: impl Fn(&str, &[Vec<usize>], usize) -> anyhow::Result<StepFn>,
    input: impl BufRead,
    mut output: impl Write,
) -> anyhow::Result<()> {
    let mut subjects: HashMap<usize, StepFn> = HashMap::new();
    let mut opened = 0;
    let mut answer = |request| match request {
        Request::Open { contestant, tensors, threads } => open(&contestant, &tensors, threads).map(|step| {
            opened += 1;
            subjects.insert(opened, step);
            Reply::Opened { subject: opened }
        }),
        Request::Run { subject, steps } => {
            let step = subjects.get_mut(&subject).ok_or_else(|| anyhow::anyhow!("subject {subject} is not open"))?;
            let start = std::time::Instant::now();
            (0..steps).try_for_each(|_| step())?;
            Ok(Reply::Ran { ns: u64::try_from(start.elapsed().as_nanos())? })
        }
        Request::Close { subject } => {
            subjects.remove(&subject);
            Ok(Reply::Closed {})
        }
    };
    send(&mut output, &Reply::Hello(hello))?;
    for line in input.lines() {
        let reply = answer(serde_json::from_str(&line?)?);
        send(&mut output, &reply.unwrap_or_else(|error| Reply::Error { message: format!("{error:#}") }))?;
    }
    Ok(())
}

/// Writes one line.
///
/// # Errors
///
/// When the output fails.
pub fn send(output: &mut impl Write, message: &impl Serialize) -> anyhow::Result<()> {
    writeln!(output, "{}", serde_json::to_string(message)?)?;
    Ok(output.flush()?)
}

impl Reply {
    /// The time of the steps.
    ///
    /// # Errors
    ///
    /// When the reply is of another kind.
    pub fn into_duration(self) -> anyhow::Result<Duration> {
        match self {
            Self::Ran { ns } => Ok(Duration::from_nanos(ns)),
            other => Err(other.unexpected()),
        }
    }

    /// The error in a reply, or the error that it was not expected.
    #[must_use]
    pub fn unexpected(self) -> anyhow::Error {
        match self {
            Self::Error { message } => anyhow::anyhow!(message),
            other => anyhow::anyhow!("an unexpected reply: {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The replies to these lines, without `Hello`.
    fn answers(requests: &str) -> anyhow::Result<Vec<Reply>> {
        let hello = Hello { name: "us".to_owned(), contestants: Vec::new() };
        let open = |contestant: &str, tensors: &[Vec<usize>], threads| -> anyhow::Result<StepFn> {
            anyhow::ensure!((contestant, tensors, threads) == ("nadam", &[vec![3, 4], vec![4]], 2), "unknown");
            let mut left = 3;
            Ok(Box::new(move || {
                left -= 1;
                anyhow::ensure!(left >= 0, "worn out");
                Ok(())
            }))
        };
        let mut output = Vec::new();
        serve(hello, open, requests.as_bytes(), &mut output)?;
        let lines = std::str::from_utf8(&output)?.lines().skip(1);
        Ok(lines.map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    #[test]
    fn requests_are_answered_in_order() {
        let replies = answers(
            r#"{"open":{"contestant":"nadam","tensors":[[3,4],[4]],"threads":2}}
{"run":{"subject":1,"steps":2}}
{"run":{"subject":1,"steps":2}}
{"close":{"subject":1}}
{"run":{"subject":1,"steps":1}}
{"open":{"contestant":"adam","tensors":[],"threads":1}}"#,
        );
        let replies = replies.unwrap();
        assert_eq!(replies[0], Reply::Opened { subject: 1 });
        assert!(matches!(replies[1], Reply::Ran { .. }));
        let error = |message: &str| Reply::Error { message: message.to_owned() };
        let rest = [error("worn out"), Reply::Closed {}, error("subject 1 is not open"), error("unknown")];
        assert_eq!(replies[2..], rest);
    }

    #[test]
    fn what_is_no_request_ends_it() {
        assert!(answers("{}").is_err());
    }

    #[test]
    fn messages_look_as_documented() {
        let text = r#"{"hello":{"name":"a","contestants":[{"id":"b","rule":"c","name":"d"}]}}"#;
        let reply: Reply = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        assert_eq!(serde_json::to_string(&Reply::Closed {}).unwrap(), r#"{"closed":{}}"#);
        assert_eq!(Reply::Ran { ns: 5 }.into_duration().unwrap(), Duration::from_nanos(5));
        assert!(Reply::Closed {}.into_duration().is_err());
    }
}
