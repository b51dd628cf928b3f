//! When a JWT ends, by its own words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use leasehold_core::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

/// For how long a JWT holds from `now` on. Nothing is verified, since that is the server's to do. `None` if it is no JWT,
/// names no end, or an impossible one. One that has ended by this machine's clock counts as impossible: it has just been
/// read for a login, so more likely the clock is wrong.
pub(crate) fn holds_for(jwt: &SecretString, now: SystemTime) -> Option<Duration> {
    let mut parts = jwt.expose_secret().split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let claims: Map<String, Value> = serde_json::from_slice(&decoded(claims)?).ok()?;
    let ends = date(claims.get("exp")?)?;
    let left = ends.checked_sub(now.duration_since(UNIX_EPOCH).ok()?)?;
    // By a clock that is slow more would be left than there ever was.
    let whole = claims.get("iat").and_then(date).and_then(|issued| ends.checked_sub(issued));
    Some(whole.map_or(left, |whole| left.min(whole))).filter(|left| !left.is_zero() && *left < ABSURD)
}

/// Seconds since 1970, which may have a fraction.
fn date(value: &Value) -> Option<Duration> {
    match value.as_u64() {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => Duration::try_from_secs_f64(value.as_f64()?).ok(),
    }
}

/// Decodes base64url without padding.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for letter in text.trim_end_matches('=').bytes() {
        let sextet = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        (bits, count) = ((bits << 6) | u32::from(sextet), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

const ABSURD: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes as [`decoded`] decodes.
    fn encoded(bytes: &[u8]) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let bits = chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
                << (8 * (3 - chunk.len()));
            text.extend((0..=chunk.len()).map(|place| char::from(LETTERS[bits >> (18 - 6 * place) & 63])));
        }
        text
    }

    fn holds(claims: &str) -> Option<u64> {
        holds_at(&format!("eyJh.{}.c2ln", encoded(claims.as_bytes())), 1_000_000)
    }

    fn holds_at(jwt: &str, now: u64) -> Option<u64> {
        let left = holds_for(&jwt.to_owned().into(), UNIX_EPOCH + Duration::from_secs(now));
        left.map(|left| left.as_secs())
    }

    #[test]
    fn what_a_jwt_says_is_read() {
        for (claims, seconds) in [
            (r#"{"exp":1000600}"#, 600),
            (r#"{"iss":"kubernetes/serviceaccount","exp":1000600,"iat":1000000,"nbf":1000000}"#, 600),
            (r#"{"exp":1000600.5}"#, 600),
            (r#"{"exp":1000600,"iat":"yesterday"}"#, 600),
            (r#"{"exp":1000600,"iat":2000000}"#, 600),
        ] {
            assert_eq!(holds(claims), Some(seconds), "{claims}");
        }
        assert_eq!(holds(r#"{"exp":1003600,"iat":1003000}"#), Some(600), "this machine's clock is slow");
        let real = "eyJhbGciOiJSUzI1NiIsImtpZCI6IiJ9.eyJleHAiOjE3MDAwMDM2MDcsImlhdCI6MTcwMDAwMDAwMH0.c2ln";
        assert_eq!(holds_at(real, 1_700_000_007), Some(3600));
    }

    #[test]
    fn everything_else_is_unknown_and_no_panic() {
        for claims in [
            "{}",
            "[]",
            "null",
            "",
            "{",
            r#"{"exp":null}"#,
            r#"{"exp":"1000600"}"#,
            r#"{"exp":-5}"#,
            r#"{"exp":0}"#,
            r#"{"exp":1000000}"#,
            r#"{"exp":999999}"#,
            r#"{"exp":18446744073709551615}"#,
            r#"{"exp":1e300}"#,
            r#"{"exp":9999999999}"#,
            r#"{"iat":1000000}"#,
        ] {
            assert_eq!(holds(claims), None, "{claims}");
        }
        for jwt in
            ["", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d", "a.!!!!.c", "a.é.c", "hvs.CAESIJ", "a.====.c"]
        {
            assert_eq!(holds_at(jwt, 1_000_000), None, "{jwt}");
        }
        assert_eq!(holds_at(&"A".repeat(100_000), 0), None);
    }
}
