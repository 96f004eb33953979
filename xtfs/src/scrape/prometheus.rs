//! The Prometheus text format, as far as our services write it.

use std::collections::BTreeMap;

/// One line: a name, its labels, a number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// `xtfs_rpc_calls_total`.
    pub(crate) name: String,
    /// In the order of the line.
    pub(crate) labels: Vec<(String, String)>,
    /// The number.
    pub(crate) value: f64,
}

/// What a service told.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Page(Vec<Sample>);

impl Sample {
    /// A label's value, empty without it.
    pub(crate) fn label(&self, name: &str) -> &str {
        let label = self.labels.iter().find(|(label, _)| label == name);
        label.map_or("", |(_, value)| value.as_str())
    }
}

impl Page {
    /// Lines that are not understood are left out: a newer service may tell more.
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(sample).filter(|sample| sample.value.is_finite()).collect())
    }

    /// All samples of a name that have these labels.
    pub(crate) fn of<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.0
            .iter()
            .filter(move |sample| sample.name == name)
            .filter(|sample| labels.iter().all(|(label, value)| sample.label(label) == *value))
    }

    /// Their sum.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.of(name, labels).map(|sample| sample.value).sum()
    }

    /// A histogram of these: how many took at most so long, by the bits of the (positive) bound, which sort like it.
    pub(crate) fn buckets(&self, name: &str, labels: &[(&str, &str)]) -> BTreeMap<u64, f64> {
        let mut buckets = BTreeMap::new();
        for sample in self.of(name, labels) {
            let bound = match sample.label("le") {
                "+Inf" => f64::INFINITY,
                bound => bound.parse().unwrap_or(f64::NAN),
            };
            if bound > 0.0 {
                *buckets.entry(bound.to_bits()).or_insert(0.0) += sample.value;
            }
        }
        buckets
    }
}

/// `name{label="value",...} number [time]`; `None`: a comment, or something else.
fn sample(line: &str) -> Option<Sample> {
    let line = line.trim();
    let ends = line.find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':')));
    let (name, rest) = line.split_at(ends?);
    if name.is_empty() {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Behind the opening brace: the labels, and what follows the closing one.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, behind) = rest.split_once("=\"")?;
        let (value, behind) = quoted(behind)?;
        labels.push((name.trim().to_owned(), value));
        rest = behind;
    }
}

/// Up to the closing quotation mark: the text, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => out.push('\n'),
                other => out.push(other),
            },
            letter => out.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_our_services_write_is_understood() {
        let metrics = rt::metrics::Metrics::new();
        let labels = |outcome| rt::metrics::CallLabels { service: "mrc", method: "Lookup", outcome };
        for millis in [1, 2, 30] {
            metrics.call(&labels("ok"), std::time::Duration::from_millis(millis));
        }
        metrics.call(&labels("refused"), std::time::Duration::from_millis(1));
        metrics.gauge("leases_held", "x").set(-4);
        metrics.told("mount_ops", "x", || vec![(vec![("mount", "/a \"b\"\\c\nd".to_owned())], 3.0)]);
        let page = Page::parse(&metrics.render());
        assert_eq!(page.sum("xtfs_rpc_calls_total", &[("service", "mrc")]), 4.0);
        assert_eq!(page.sum("xtfs_rpc_calls_total", &[("outcome", "ok"), ("method", "Lookup")]), 3.0);
        assert_eq!(page.sum("xtfs_rpc_calls_total", &[("service", "osd")]), 0.0);
        assert_eq!(page.sum("xtfs_leases_held", &[]), -4.0);
        let mount = page.of("xtfs_mount_ops_total", &[]).next().unwrap();
        assert_eq!((mount.label("mount"), mount.label("none"), mount.value), ("/a \"b\"\\c\nd", "", 3.0));
        let buckets = page.buckets("xtfs_rpc_seconds_bucket", &[("service", "mrc"), ("outcome", "ok")]);
        let counts: Vec<f64> = buckets.values().copied().collect();
        assert!(counts.is_sorted() && counts.last() == Some(&3.0), "{counts:?}");
        assert_eq!(buckets.keys().last(), Some(&f64::INFINITY.to_bits()));
    }

    #[test]
    fn odd_lines() {
        let page = Page::parse(
            "# HELP a b\na 1\n a{} 2 1700000000\na{x=\"1\",} 4e0\nb{x=\"1} 3\nc{x=1} 3\nd\n{} 1\nnan NaN\ninf +Inf\n\n",
        );
        assert_eq!(page.sum("a", &[]), 7.0);
        assert_eq!(page.0.len(), 3, "{page:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>(), like in "[a{}=\",\\\\ 1.e+\n#]{0,60}") {
            for text in [text, like] {
                let page = Page::parse(&text);
                let _ = (page.sum("a", &[("a", "")]), page.buckets("a", &[]));
            }
        }

        #[test]
        fn labels_come_back(value in any::<String>(), number in 0..1_000_000u32) {
            let metrics = rt::metrics::Metrics::new();
            let told = value.clone();
            metrics.told("x", "x", move || vec![(vec![("l", told.clone())], f64::from(number))]);
            let page = Page::parse(&metrics.render());
            // Other line ends than \n would end a line for us; names of mounts do not have them.
            prop_assume!(!value.contains('\r'));
            let sample = page.of("xtfs_x_total", &[]).next().unwrap();
            prop_assert_eq!((sample.label("l"), sample.value), (value.as_str(), f64::from(number)));
        }
    }
}
