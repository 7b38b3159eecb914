//! Parses numbers on the command line. The errors say which numbers are allowed.

/// Parses a whole number from `least` to `most`.
pub(super) fn whole<N: TryFrom<u64>>(least: u64, most: u64) -> impl Fn(&str) -> Result<N, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|n| (least..=most).contains(n)).and_then(|n| N::try_from(n).ok());
        number.ok_or_else(|| match most {
            u64::MAX => format!("expected a whole number from {least}, less than 2^64"),
            _ => format!("expected a whole number from {least} to {most}"),
        })
    }
}

/// Parses the most tokens to generate: a whole number, or -1 for no limit.
pub(super) fn max_tokens(text: &str) -> Result<usize, String> {
    match text {
        "-1" => Ok(usize::MAX),
        _ => text.parse().map_err(|_| "expected a whole number from 0, or -1 for no limit".into()),
    }
}

/// Parses a number with a decimal point or without.
pub(super) fn number(text: &str) -> Result<f32, String> {
    text.parse().map_err(|_| "expected a number, like 0.7".into())
}

/// Parses the largest error that counts as equal.
pub(super) fn bound(text: &str) -> Result<f64, String> {
    let bound = text.parse().ok().filter(|bound: &f64| *bound >= 0.0);
    bound.ok_or_else(|| "expected a number from 0, like 1e-4".into())
}

/// Parses a percentage of less than 100.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| (0.0..100.0).contains(percent));
    percent.ok_or_else(|| "expected a number from 0 to less than 100, like 3 or 0.5".into())
}

/// Parses a number of bytes: a number with one of the letters K, M, G, which stand for powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    anser::environment::n_bytes(text).ok_or_else(|| "expected a number of bytes, like 500M or 4G".into())
}

/// Parses a size of a file: a number, which may have a fraction, with one of the letters K, M, G, which stand for powers of 1024.
pub(super) fn file_size(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1u64 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let is_plain =
        number.starts_with(|c: char| c.is_ascii_digit()) && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let n_bytes = number.parse().ok().filter(|_| is_plain).map(|number: f64| number * unit as f64);
    let n_bytes = n_bytes.filter(|n_bytes| (1.0..=1e15).contains(n_bytes));
    n_bytes.map(|n_bytes| n_bytes as u64).ok_or_else(|| "expected a number of bytes, like 900M or 1.9G".into())
}

/// Parses a number greater than 0.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "expected a number greater than 0, like 0.005".into())
}

#[cfg(test)]
mod tests {
    use super::{bound, file_size, max_tokens, percent, positive, size, whole};

    #[test]
    fn sizes_of_files_may_have_a_fraction() {
        for (text, n_bytes) in [("17", 17), ("1.5K", 1536), ("1.9g", 2_040_109_465), ("0.5M", 512 << 10)] {
            assert_eq!(file_size(text), Ok(n_bytes), "{text}");
        }
        for text in ["", "G", "-1", "nan", "inf", "1e9", "0", "1.2.3G", "3T", "9999999999G", "+1", ".5G"] {
            assert!(file_size(text).is_err(), "{text}");
        }
        assert_eq!(positive("1e-3"), Ok(1e-3));
        for text in ["0", "-1", "nan", "inf", ""] {
            assert!(positive(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_letters() {
        for (text, n_bytes) in [("17", 17), ("3K", 3 << 10), ("500M", 500 << 20), ("4g", 4 << 30), ("0", 0)] {
            assert_eq!(size(text), Ok(n_bytes), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "3T", "ten", "99999999999G", "\u{e9}M"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whole_numbers_have_bounds() {
        let small = whole::<u8>(1, 1000);
        assert_eq!((small("1"), small("255")), (Ok(1), Ok(255)));
        for text in ["", "0", "256", "1001", "-1", "1.0", "1e2", "one", "99999999999999999999"] {
            assert!(small(text).is_err(), "{text}");
        }
        assert_eq!(whole::<u64>(0, u64::MAX)("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn minus_one_token_is_no_limit() {
        assert_eq!((max_tokens("0"), max_tokens("12"), max_tokens("-1")), (Ok(0), Ok(12), Ok(usize::MAX)));
        for text in ["-2", "", "1.5", "all"] {
            assert!(max_tokens(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_percentage_is_less_than_the_whole() {
        assert_eq!((percent("0"), percent("2.5"), percent("99.9")), (Ok(0.0), Ok(2.5), Ok(99.9)));
        for text in ["100", "-1", "nan", "inf", "3%", ""] {
            assert!(percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bound_is_no_nan() {
        assert_eq!((bound("0"), bound("1e-4"), bound("inf")), (Ok(0.0), Ok(1e-4), Ok(f64::INFINITY)));
        for text in ["nan", "-1", "-0.1", ""] {
            assert!(bound(text).is_err(), "{text}");
        }
    }
}
