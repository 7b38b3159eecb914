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

#[cfg(test)]
mod tests {
    use super::{bound, max_tokens, percent, size, whole};

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
