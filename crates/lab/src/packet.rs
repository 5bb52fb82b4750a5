//! The questions of the lab's client and the service's answers, byte by byte.
//!
//! A question is 24 bytes, an answer 64, both in network byte order and of fixed size, so that the
//! service answers without an allocation. The number of a question is the client's tick.

/// Length of a question.
pub const QUESTION_LEN: usize = 24;
/// Length of an answer.
pub const ANSWER_LEN: usize = 64;
/// Longest server name that an answer carries; longer ones are cut.
pub const NAME_MAX: usize = 24;

const MAGIC: u32 = 0x4841_4c31; // "HAL1"

/// One request to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The client's tick, counted from 0.
    pub number: u64,
    /// Which virtual IP of the lab's list is asked.
    pub vip: u16,
    /// `None`: an ordinary client's request. `Some(server)`: sent straight to that server's MAC, to
    /// learn whether it would answer.
    pub probe: Option<u16>,
}

/// One reply of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The question.
    pub question: Question,
    /// Name of the server that answers.
    pub node: String,
    /// When the service was started, `CLOCK_BOOTTIME` nanoseconds.
    pub started: u64,
    /// When it answered, `CLOCK_BOOTTIME` nanoseconds.
    pub answered: u64,
}

const NO_PROBE: u16 = u16::MAX;

impl Question {
    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; QUESTION_LEN] {
        let mut bytes = [0; QUESTION_LEN];
        bytes[0..4].copy_from_slice(&MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.vip.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.probe.unwrap_or(NO_PROBE).to_be_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    /// Reads a question; `None` when it is none. Longer input is accepted, the rest is ignored.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < QUESTION_LEN || u32_at(bytes, 0) != MAGIC {
            return None;
        }
        let probe = u16::from_be_bytes([bytes[6], bytes[7]]);
        Some(Self {
            number: u64_at(bytes, 8),
            vip: u16::from_be_bytes([bytes[4], bytes[5]]),
            probe: (probe != NO_PROBE).then_some(probe),
        })
    }
}

/// Writes an answer into `out`.
pub fn encode_answer(
    out: &mut [u8; ANSWER_LEN],
    question: &Question,
    node: &str,
    started: u64,
    answered: u64,
) {
    out.fill(0);
    out[..QUESTION_LEN].copy_from_slice(&question.encode());
    out[24..32].copy_from_slice(&started.to_be_bytes());
    out[32..40].copy_from_slice(&answered.to_be_bytes());
    let name = &node.as_bytes()[..node.len().min(NAME_MAX)];
    out[40..40 + name.len()].copy_from_slice(name);
}

impl Answer {
    /// Reads an answer; `None` when it is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < ANSWER_LEN {
            return None;
        }
        let question = Question::decode(bytes)?;
        let name = &bytes[40..ANSWER_LEN];
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Self {
            question,
            node: String::from_utf8_lossy(name).into_owned(),
            started: u64_at(bytes, 24),
            answered: u64_at(bytes, 32),
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .iter()
        .fold(0, |value, byte| (value << 8) | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8]
        .iter()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_survive_the_wire() {
        for probe in [None, Some(0), Some(7)] {
            let question = Question {
                number: 0x0102_0304_0506_0708,
                vip: 3,
                probe,
            };
            assert_eq!(Question::decode(&question.encode()), Some(question));
            let mut bytes = [0xff; ANSWER_LEN];
            encode_answer(&mut bytes, &question, "beta", 17, u64::MAX - 1);
            let answer = Answer::decode(&bytes).expect("a whole answer");
            assert_eq!((answer.question, answer.node.as_str()), (question, "beta"));
            assert_eq!((answer.started, answer.answered), (17, u64::MAX - 1));
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let mut bytes = [0; ANSWER_LEN];
        encode_answer(
            &mut bytes,
            &Question {
                number: 1,
                vip: 0,
                probe: None,
            },
            "a-name-longer-than-twenty-four",
            0,
            0,
        );
        assert_eq!(
            Answer::decode(&bytes).expect("cut, not refused").node,
            "a-name-longer-than-twent"
        );
        assert_eq!(Answer::decode(&bytes[..ANSWER_LEN - 1]), None);
        bytes[0] ^= 1;
        assert_eq!(Answer::decode(&bytes), None);
        assert_eq!(Question::decode(&[]), None);
    }
}
