//! A Markdown table for each engine.

use anyhow::Result;
use sandbox_broker::clock::{Clock, SystemClock};

/// The figures of one size, in the order of the table.
#[derive(Default)]
pub struct Figures(Vec<(&'static str, Figure)>);

#[derive(Clone, Copy)]
pub enum Figure {
    Millis(f64),
    PerSecond(f64),
    Mebibytes(f64),
    Count(f64),
    /// The broker answered with this error status.
    ErrorStatus(u16),
}

impl Figures {
    pub fn add(&mut self, name: &'static str, figure: Figure) {
        self.0.push((name, figure));
    }

    fn get(&self, name: &str) -> Option<Figure> {
        self.0
            .iter()
            .find_map(|(known, figure)| (*known == name).then_some(*figure))
    }
}

impl Figure {
    fn value(self) -> Option<f64> {
        match self {
            Self::Millis(value)
            | Self::PerSecond(value)
            | Self::Mebibytes(value)
            | Self::Count(value) => Some(value),
            Self::ErrorStatus(_) => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Millis(value) if value >= 10_000.0 => format!("{:.0} s", value / 1e3),
            Self::Millis(value) if value >= 100.0 => format!("{value:.0} ms"),
            Self::Millis(value) => format!("{value:.1} ms"),
            Self::PerSecond(value) => format!("{value:.0}/s"),
            Self::Mebibytes(value) => format!("{value:.0} MiB"),
            Self::Count(value) => format!("{value:.0}"),
            Self::ErrorStatus(status) => format!("HTTP {status}"),
        }
    }
}

#[derive(Default)]
pub struct Report(Vec<(usize, Figures)>);

impl Report {
    pub fn add(&mut self, size: usize, figures: Figures) {
        self.0.push((size, figures));
    }

    /// Prints each figure, and its ratio to that of the smallest pool.
    pub fn print(&self, title: &str) {
        let Some((_, first)) = self.0.first() else {
            return;
        };
        let mut names: Vec<&str> = Vec::new();
        for (_, figures) in &self.0 {
            for (name, _) in &figures.0 {
                if !names.contains(name) {
                    names.push(name);
                }
            }
        }
        let sizes: Vec<_> = self.0.iter().map(|(size, _)| thousands(*size)).collect();
        println!("\n{title}:\n\n| | {} |", sizes.join(" | "));
        println!("|---|{}", "---|".repeat(sizes.len()));
        for name in names {
            let base = first.get(name).and_then(Figure::value);
            let cells: Vec<_> = self
                .0
                .iter()
                .enumerate()
                .map(|(at, (_, figures))| {
                    let Some(figure) = figures.get(name) else {
                        return "–".to_owned();
                    };
                    match (base, figure.value()) {
                        (Some(base), Some(value)) if at > 0 && base > 0.0 => {
                            format!("{} (×{})", figure.text(), short(value / base))
                        }
                        _ => figure.text(),
                    }
                })
                .collect();
            println!("| {name} | {} |", cells.join(" | "));
        }
    }
}

fn short(ratio: f64) -> String {
    if ratio >= 10.0 {
        format!("{ratio:.0}")
    } else {
        format!("{ratio:.1}")
    }
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn head() -> Result<()> {
    let now = jiff::Timestamp::from_second(SystemClock.now().0)?;
    println!(
        "{} cores, version {}, {now}",
        std::thread::available_parallelism().map_or(0, usize::from),
        env!("CARGO_PKG_VERSION"),
    );
    Ok(())
}
