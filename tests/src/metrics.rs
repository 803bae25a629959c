//! The Prometheus text that the admin listener gives, read strictly enough to notice when it is malformed.

use anyhow::{Context, Result, bail, ensure};

/// One line of the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Metric name.
    pub name: String,
    /// Labels in order of appearance.
    pub labels: Vec<(String, String)>,
    /// Value.
    pub value: f64,
}

/// All samples of one reading.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

impl Metrics {
    /// Reads the text exposition format, version 0.0.4.
    ///
    /// # Errors
    ///
    /// The first line that is no sample and no comment.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| sample(line).with_context(|| format!("in {line:?}")));
        Ok(Self { samples: samples.collect::<Result<_>>()? })
    }

    /// Every sample.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The sum over all samples of a name that carry these labels; zero when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |sample: &&Sample| {
            sample.name == name && labels.iter().all(|(key, value)| sample.label(key) == Some(value))
        };
        self.samples.iter().filter(carries).map(|sample| sample.value).sum()
    }

    /// Whether any sample has that name.
    pub fn knows(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }
}

impl Sample {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn sample(line: &str) -> Result<Sample> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    let first = name.bytes().next().context("no name")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    ensure!(!first.is_ascii_digit() && name.bytes().all(plain), "a bad name");
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, behind) = rest.split_once("=\"").context("a label without a value")?;
            let (value, behind) = quoted(behind)?;
            labels.push((key.trim().to_owned(), value));
            rest = behind.strip_prefix(',').unwrap_or(behind);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next().context("no value")?;
    Ok(Sample { name: name.to_owned(), labels, value: value.parse()? })
}

/// A label's value up to its closing quote, and what stands behind.
fn quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, next)) = chars.next() {
        match next {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next().context("an escape without its letter")?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    bail!("an open quote")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_summed() {
        let text = "# HELP a Of b.\n# TYPE a counter\na{x=\"1\",y=\"q\\\"z\"} 2\na{x=\"2\"} 3.5\nb 1e3\nc{le=\"+Inf\"} +Inf\n";
        let metrics = Metrics::parse(text).expect("good text");
        assert_eq!(metrics.samples().len(), 4);
        assert_eq!(metrics.sum("a", &[]), 5.5);
        assert_eq!(metrics.sum("a", &[("x", "2")]), 3.5);
        assert_eq!(metrics.sum("a", &[("y", "q\"z")]), 2.0);
        assert_eq!(metrics.sum("b", &[]), 1000.0);
        assert!(!metrics.knows("d"));
    }

    #[test]
    fn malformed_text_is_refused() {
        for text in ["a", "a{x=1} 2\n", "a{x=\"1} 2\n", "1a 2\n", "a two\n", "a 2", "<html>\n"] {
            assert!(Metrics::parse(text).is_err(), "text: {text:?}");
        }
    }
}
