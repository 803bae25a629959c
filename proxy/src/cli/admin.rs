//! How commands ask the admin listener of a running edge.

use std::io::BufRead;
use std::time::Duration;

use anyhow::anyhow;

use super::Trouble;
use super::client::{self, Answer, Request};

/// Where the admin listener is, and what opens it.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArguments {
    /// The edge's admin listener: HOST:PORT, http://HOST:PORT or unix:/path.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6082", value_parser = client::address)]
    admin: String,
    /// What the edge's admin.token asks for, if it has one.
    #[arg(long, value_name = "TOKEN", env = "CLEARCOAT_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl AdminArguments {
    /// The body of the answer to a GET of `target`.
    ///
    /// # Errors
    ///
    /// [`Trouble::Usage`] with what the listener says if it does not understand the question, [`Trouble::Failed`] if it
    /// cannot be reached, wants a token, or answers anything else but 200.
    pub(super) fn get(&self, target: &str) -> Result<Vec<u8>, Trouble> {
        let answer = self.ask("GET", target)?;
        match answer.status {
            200 => Ok(answer.body),
            _ => Err(self.refused(&answer)),
        }
    }

    /// The answer to a request without a body, whatever it says.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), but for answers with other statuses than 400 and 401.
    pub(super) fn ask(&self, method: &str, target: &str) -> Result<Answer, Trouble> {
        let answer = self.request(method, target, |request| request.send())?;
        match answer.status {
            400 | 401 => Err(self.refused(&answer)),
            _ => Ok(answer),
        }
    }

    /// The body of an answer that goes on for ever; reading it fails after `silence` without a byte.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub(super) fn listen(&self, target: &str, silence: Duration) -> Result<impl BufRead + use<>, Trouble> {
        let listening = self.request("GET", target, |request| request.listen(silence))?;
        listening.map_err(|answer| self.refused(&answer))
    }

    fn request<T>(
        &self,
        method: &str,
        target: &str,
        how: impl FnOnce(Request<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let authorization = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let fields: Vec<(&str, &str)> =
            authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
        how(Request { to: &self.admin, method, target, host: client::host_of(&self.admin), fields: &fields })
    }

    /// What an answer means that is not 200.
    fn refused(&self, answer: &Answer) -> Trouble {
        match answer.status {
            400 => Trouble::Usage(String::from_utf8_lossy(&answer.body).trim().to_owned()),
            401 => anyhow!("{} wants a token; give it with --token", self.admin).into(),
            status => anyhow!("{} answered {status} {}", self.admin, answer.reason).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::test::answering;
    use super::*;

    /// Asks a listener that gives this answer; what came of it, and the head of the request.
    fn ask(answer: &'static str, token: Option<&str>) -> (Result<Vec<u8>, Trouble>, String) {
        let (address, serving) = answering(answer);
        let admin = client::address(&format!("http://{address}/")).unwrap();
        let found = AdminArguments { admin, token: token.map(Into::into) }.get("/api/x");
        (found, serving.join().unwrap())
    }

    #[test]
    fn the_answer_or_what_is_wrong() {
        let (found, head) = ask("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Some("secret"));
        assert_eq!(found.unwrap(), b"{}");
        assert!(head.starts_with("GET /api/x HTTP/1.1\r\nHost: 127.0.0.1:"), "{head}");
        assert!(head.contains("\r\nAuthorization: Bearer secret\r\n"), "{head}");
        for (answer, usage, words) in [
            ("HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nurl?\n", true, "url?"),
            (
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
                false,
                "wants a token; give it with --token",
            ),
            ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", false, "answered 503 Busy"),
        ] {
            let (found, head) = ask(answer, None);
            let trouble = found.unwrap_err();
            assert_eq!(matches!(trouble, Trouble::Usage(_)), usage, "{trouble}");
            assert!(trouble.to_string().ends_with(words), "{trouble}");
            assert!(!head.contains("Authorization"), "{head}");
        }
    }
}
