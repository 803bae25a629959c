//! Which request comes next.

use clearcoat_benches::zipf::Zipf;

use crate::Arguments;

/// The requests of a run: always the same, or drawn from many, or each of many once.
pub(crate) struct Targets {
    begin: String,
    end: String,
    keys: u64,
    /// The next key when each is asked for once.
    once: Option<u64>,
    random: fastrand::Rng,
    /// Draws where keys are not drawn evenly.
    zipf: Option<Zipf>,
    request: Vec<u8>,
}

impl Targets {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let Arguments { path, keys, once, header: headers, zipf, .. } = arguments;
        let mut end = String::from(" HTTP/1.1\r\nHost: bench.test\r\n");
        for line in headers {
            end.push_str(line);
            end.push_str("\r\n");
        }
        end.push_str("\r\n");
        Self {
            begin: format!("GET {path}"),
            end,
            keys: *keys,
            once: once.then_some(0),
            zipf: (*zipf > 0.0).then(|| Zipf::with_exponent(*keys, *zipf, 7)),
            random: fastrand::Rng::with_seed(7),
            request: Vec::new(),
        }
    }

    /// The bytes of the request for one key.
    pub(crate) fn request(&mut self, key: u64) -> &[u8] {
        use std::io::Write as _;
        self.request.clear();
        self.request.extend_from_slice(self.begin.as_bytes());
        if self.keys > 0 {
            // Writing to a vector does not fail.
            let _ = write!(self.request, "{key}");
        }
        self.request.extend_from_slice(self.end.as_bytes());
        &self.request
    }

    /// The next request, or nothing when each was asked for.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        let key = match &mut self.once {
            Some(next) if *next == self.keys => return None,
            Some(next) => {
                *next += 1;
                *next - 1
            }
            None => match &mut self.zipf {
                Some(zipf) => zipf.next()?,
                None if self.keys > 0 => self.random.u64(..self.keys),
                None => 0,
            },
        };
        Some(self.request(key))
    }

    pub(crate) fn at_end(&self) -> bool {
        self.once == Some(self.keys)
    }
}
