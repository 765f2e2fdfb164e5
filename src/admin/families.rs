//! Families of series, as `prometheus-client` writes them.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::metrics::count::Distribution;

/// The labels of one series.
pub type SeriesLabels = Vec<(&'static str, String)>;

/// Writes families of series.
pub struct Families<'e>(pub DescriptorEncoder<'e>);

impl Families<'_> {
    /// What only grows.
    ///
    /// # Errors
    /// What the writer says.
    pub fn counter<N: Into<Number>>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (SeriesLabels, N)>,
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in series {
            let mut one = family.encode_family(&labels)?;
            match value.into() {
                Number::Whole(value) => one.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                Number::Part(value) => one.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
            }
        }
        Ok(())
    }

    /// What rises and falls.
    ///
    /// # Errors
    /// What the writer says.
    pub fn gauge<N: Into<Number>>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (SeriesLabels, N)>,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in series {
            let mut one = family.encode_family(&labels)?;
            match value.into() {
                Number::Whole(value) => one.encode_gauge(&value)?,
                Number::Part(value) => one.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    /// How often values lay in each range; `scale` is what a value is divided by: a million makes
    /// seconds of microseconds.
    ///
    /// # Errors
    /// What the writer says.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        scale: f64,
        series: impl IntoIterator<Item = (SeriesLabels, Distribution)>,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, values) in series {
            let bounds = values.bounds.iter().map(|bound| *bound as f64 / scale);
            let buckets: Vec<_> = bounds.zip(values.counts.iter().copied()).collect();
            let count = values.counts.iter().sum();
            let sum = values.sum as f64 / scale;
            let mut one = family.encode_family(&labels)?;
            one.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

/// A value.
pub enum Number {
    Whole(u64),
    Part(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Whole(u64::from(value))
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Part(value)
    }
}

/// The only series of a metric.
pub fn alone<N>(value: N) -> [(SeriesLabels, N); 1] {
    [(Vec::new(), value)]
}
