//! Adding up what many test programs say about themselves.

/// The sums over all test programs of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that did not run because they are marked so.
    pub ignored: u64,
    /// Names of those that failed.
    pub failures: Vec<String>,
}

impl Tally {
    /// Takes one line of libtest's output into account.
    pub fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.ignored += count(counts, "ignored");
        } else if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
    }

    /// The closing line.
    pub fn line(&self) -> String {
        let ignored = if self.ignored == 0 { String::new() } else { format!(", {} ignored", self.ignored) };
        format!("{} passed, {} failed{ignored}", self.passed, self.failed)
    }
}

/// The number before `word` in `ok. 4 passed; 0 failed; …`.
fn count(counts: &str, word: &str) -> u64 {
    counts
        .split(['.', ';'])
        .filter_map(|part| part.trim().split_once(' '))
        .find(|(_, what)| *what == word)
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_programs_are_added() {
        let mut tally = Tally::default();
        let output = "\
running 2 tests
test a::b ... ok
test a::c ... FAILED
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 41 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 1.20s";
        output.lines().for_each(|line| tally.read(line));
        assert_eq!(tally, Tally { passed: 42, failed: 1, ignored: 2, failures: vec!["a::c".into()] });
        assert_eq!(tally.line(), "42 passed, 1 failed, 2 ignored");
    }

    #[test]
    fn other_lines_say_nothing() {
        let mut tally = Tally::default();
        tally.read("test of the bilge pump ... wet");
        assert_eq!(tally.line(), "0 passed, 0 failed");
    }
}
