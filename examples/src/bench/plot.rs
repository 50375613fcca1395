//! The plot of `weald bench runtime`: for each figure a small chart of all contestants' costs over Weald's, on one logarithmic scale, with
//! what was reached of its goals; the groups of the table one below the other.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;
use weald_benches::runtime::{Better, Report, Row};

const COLUMNS: usize = 3;
const CHART: (u32, u32) = (430, 50);
/// Of the scale, in multiples of Weald's cost: what is beyond ends there.
const LEAST: f64 = 0.1;
const MOST: f64 = 100.0;
const HEADING: u32 = 36;
const BAR: u32 = 17;
const HEAD: u32 = 66;
const LABELS: u32 = 62;
const FIGURES: u32 = 78;
/// Width of a letter of the goals, at most.
const GOAL_LETTER: i32 = 8;

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT: RGBColor = RGBColor(0xbb, 0xbb, 0xbb);
const WEALD: RGBColor = RGBColor(0x2e, 0x7d, 0x4f);
const PEER: RGBColor = RGBColor(0x8f, 0xa3, 0xb8);
const MISSED: RGBColor = RGBColor(0xb0, 0x2a, 0x2a);
const FLOOR: RGBColor = RGBColor(0xd9, 0xc4, 0x8c);

/// Draws the report as an SVG.
///
/// # Errors
///
/// If the file cannot be written.
pub(super) fn draw(report: &Report, path: &Path) -> Result<()> {
    let groups: Vec<(&str, Vec<Chart>)> =
        report.rows.chunk_by(|a, b| a.group == b.group).map(|rows| (rows[0].group, rows.iter().filter_map(Chart::new).collect())).collect();
    let height_of = |row: &[Chart]| row.iter().map(Chart::height).max().unwrap_or(0);
    let height: u32 = groups.iter().map(|(_, charts)| HEADING + charts.chunks(COLUMNS).map(height_of).sum::<u32>()).sum();
    let size = (CHART.0 * COLUMNS as u32 + 20, HEAD + height + 10);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    text(&root, "weald-runtime beside its peers", (16, 10), 20, &INK)?;
    let environment = &report.environment;
    let note = format!(
        "Bars: cost over Weald's (time or memory an operation; logarithmic, {LEAST} to {MOST}, line at 1: longer is worse). Figures: medians of {} rounds. {}, Linux {}.",
        report.rounds, environment.processor, environment.kernel
    );
    text(&root, &note, (16, 38), 13, &INK)?;
    let mut top = HEAD;
    for (group, charts) in &groups {
        text(&root, group, (16, top as i32 + 8), 18, &INK)?;
        top += HEADING;
        for row in charts.chunks(COLUMNS) {
            for (column, chart) in row.iter().enumerate() {
                chart.draw(&root, (column as u32 * CHART.0 + 16, top))?;
            }
            top += height_of(row);
        }
    }
    root.present()?;
    Ok(())
}

struct Chart {
    title: String,
    /// In words, and whether they are reached.
    goals: Vec<(String, bool)>,
    bars: Vec<Bar>,
}

struct Bar {
    contestant: &'static str,
    figure: String,
    /// Cost over Weald's.
    ratio: f64,
}

impl Chart {
    fn new(row: &Row) -> Option<Self> {
        let weald = row.contestants.iter().find(|samples| samples.contestant == "weald")?.median?;
        let bars = row.contestants.iter().filter_map(|samples| {
            let median = samples.median?;
            let ratio = match row.better {
                Better::Lower => median / weald,
                Better::Higher => weald / median,
            };
            let unit = if row.unit.starts_with('%') { "%" } else { row.unit };
            let mark = if samples.fewer_tasks.is_some() { "*" } else { "" };
            Some(Bar { contestant: samples.contestant, figure: format!("{} {unit}{mark}", super::runtime::number(median)), ratio })
        });
        let figure = if row.figure.is_empty() { String::new() } else { format!(" {}", row.figure) };
        let workers = if row.workers == 1 { "1 worker" } else { "2 workers" };
        let bars: Vec<_> = bars.filter(|bar| bar.ratio.is_finite() && bar.ratio > 0.0).collect();
        let goals = row.goals.iter().map(|goal| (goal.to_string(), goal.reached)).collect();
        (bars.len() > 1).then(|| Self { goals, title: format!("{}{figure}, {workers}", row.title), bars })
    }

    fn height(&self) -> u32 {
        CHART.1 + self.bars.len() as u32 * BAR + 8
    }

    fn draw(&self, root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, (left, top): (u32, u32)) -> Result<()> {
        text(root, &self.title, (left as i32, top as i32 + 6), 14, &INK)?;
        let mut at = left as i32;
        for (words, reached) in &self.goals {
            text(root, words, (at, top as i32 + 25), 12, if *reached { &WEALD } else { &MISSED })?;
            at += words.len() as i32 * GOAL_LETTER;
        }
        let width = CHART.0 - LABELS - FIGURES - 30;
        let start = left + LABELS;
        let position =
            |ratio: f64| start as i32 + ((ratio.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln() * f64::from(width)) as i32;
        let first = (top + CHART.1 - 4) as i32;
        let last = first + (self.bars.len() as u32 * BAR) as i32;
        for (index, bar) in self.bars.iter().enumerate() {
            let y = first + (index as u32 * BAR) as i32;
            let colour = match bar.contestant {
                "weald" => WEALD,
                "floor" => FLOOR,
                _ => PEER,
            };
            text(root, bar.contestant, (left as i32, y + 1), 12, &INK)?;
            let end = position(bar.ratio).max(start as i32 + 1);
            root.draw(&Rectangle::new([(start as i32, y + 2), (end, y + BAR as i32 - 3)], colour.filled()))?;
            text(root, &bar.figure, (end + 5, y + 1), 12, &INK)?;
        }
        root.draw(&PathElement::new([(position(1.0), first), (position(1.0), last)], FAINT))?;
        Ok(())
    }
}

fn text(
    root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    words: &str,
    at: (i32, i32),
    size: i32,
    colour: &RGBColor,
) -> Result<()> {
    Ok(root.draw(&Text::new(words.to_owned(), at, ("sans-serif", size).into_font().color(colour)))?)
}
