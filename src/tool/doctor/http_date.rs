//! `Date` of an HTTP answer, to compare clocks (RFC 9110 §5.6.7, the form that is sent today).

/// Seconds since 1970 of `Fri, 27 Nov 2026 06:10:44 GMT`. `None` for anything else.
pub fn unix_seconds(text: &[u8]) -> Option<i64> {
    let text = str::from_utf8(text).ok()?.trim();
    let (_, rest) = text.split_once(", ")?;
    let mut parts = rest.split(' ');
    let day: i64 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let month = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
    .iter()
    .position(|name| *name == month)? as i64
        + 1;
    let year: i64 = parts.next()?.parse().ok()?;
    let time: Vec<i64> = parts.next()?.split(':').map_while(|part| part.parse().ok()).collect();
    let [hour, minute, second] = time[..] else { return None };
    let is_date = (1970..=9999).contains(&year) && (1..=31).contains(&day) && parts.next() == Some("GMT");
    is_date.then(|| ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days since 1970-01-01 in the Gregorian calendar: years begin in March, so that the leap day is their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(unix_seconds(b"Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(unix_seconds(b"Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(unix_seconds(b"Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        for bad in [
            &b"Sunday, 06-Nov-94 08:49:37 GMT"[..],
            b"",
            b"Sun, 06 Nov 1994 08:49 GMT",
            b"\xff",
        ] {
            assert_eq!(unix_seconds(bad), None);
        }
    }
}
