//! Go's `filepath.Match` for one label of a host name.

/// Whether all of `text` matches `pattern`: `*`, `?`, `[a-z]`, `[^a-z]`, `\c`. A
/// malformed pattern matches nothing.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not fit here.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if p == pattern.len() && t == text.len() {
            return true;
        }
        if pattern.get(p) == Some(&'*') {
            retry = Some((p, t + 1));
            p += 1;
            continue;
        }
        match text.get(t).and_then(|&c| one(&pattern[p..], c)) {
            Some(used) => (p, t) = (p + used, t + 1),
            None => match retry {
                Some((star, next)) if next <= text.len() => {
                    (p, t) = (star + 1, next);
                    retry = Some((star, next + 1));
                }
                _ => return false,
            },
        }
    }
}

/// Characters of the pattern that stand for `c`.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match *pattern.first()? {
        '?' => Some(1),
        '\\' => (*pattern.get(1)? == c).then_some(2),
        '[' => class(pattern, c),
        literal => (literal == c).then_some(1),
    }
}

fn class(pattern: &[char], c: char) -> Option<usize> {
    let negated = pattern.get(1) == Some(&'^');
    let mut at = 1 + usize::from(negated);
    let (mut hit, first) = (false, at);
    loop {
        if *pattern.get(at)? == ']' && at > first {
            return (hit != negated).then_some(at + 1);
        }
        let (low, next) = member(pattern, at)?;
        let (high, next) = if pattern.get(next) == Some(&'-') { member(pattern, next + 1)? } else { (low, next) };
        hit |= (low..=high).contains(&c);
        at = next;
    }
}

/// One character of a class and where the next begins.
fn member(pattern: &[char], at: usize) -> Option<(char, usize)> {
    match *pattern.get(at)? {
        '\\' => Some((*pattern.get(at + 1)?, at + 2)),
        '-' | ']' => None,
        c => Some((c, at + 1)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("*", "quay", true),
            ("a*", "abc", true),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("*a*b*", "xaxbx", true),
            ("?", "", false),
            ("r?g", "reg", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[a-", "a", false),
            ("[]a]", "]", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("ab", "a", false),
            ("", "", true),
        ] {
            assert_eq!(super::matches(pattern, text), want, "{pattern:?} on {text:?}");
        }
    }
}
