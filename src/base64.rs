//! Base64 (RFC 4648): pictures and passwords on their way.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends `bytes` in base64 (RFC 4648), padded if they are no multiple of three.
pub(crate) fn encode(bytes: &[u8], to: &mut Vec<u8>) {
    for three in bytes.chunks(3) {
        let byte = |index| three.get(index).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            to.push(if digit <= three.len() {
                DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]
            } else {
                b'='
            });
        }
    }
}

/// The bytes of what `encode` made.
pub(crate) fn decode(base64: &str) -> Option<Vec<u8>> {
    let digits = base64.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for four in digits.chunks(4) {
        let mut bits = 0;
        for index in 0..4 {
            let digit = four.get(index).copied().unwrap_or(b'A');
            bits = bits << 6 | value(digit)?;
        }
        let whole = &bits.to_be_bytes()[1..];
        bytes.extend_from_slice(&whole[..four.len() - 1]);
    }
    Some(bytes)
}

fn value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

/// Texts and what they are in base64.
#[cfg(test)]
pub(crate) const ENCODED: [(&str, &str); 9] = [
    ("", ""),
    ("f", "Zg=="),
    ("fo", "Zm8="),
    ("foo", "Zm9v"),
    ("foob", "Zm9vYg=="),
    ("fooba", "Zm9vYmE="),
    ("foobar", "Zm9vYmFy"),
    ("\u{3ff}\u{3ef}", "z7/Prw=="),
    ("~~~", "fn5+"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else_is() {
        for (bytes, base64) in ENCODED {
            let mut encoded = Vec::new();
            encode(bytes.as_bytes(), &mut encoded);
            assert_eq!(encoded, base64.as_bytes());
            assert_eq!(decode(base64).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(decode("Zm 9v"), None);
    }
}
