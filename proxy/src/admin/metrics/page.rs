//! What one scrape has gathered.

use std::collections::HashMap;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily};

use super::families::Family;
use crate::admin::counters::BUCKET_MICROS;
use crate::admin::kinds::RequestResult;
use crate::admin::totals::Totals;

/// The families that one scrape has filled so far.
#[derive(Default)]
pub(super) struct Page {
    pub(super) families: Vec<MetricFamily>,
    /// Where each family is in `families`.
    places: HashMap<&'static str, usize>,
}

impl Page {
    pub(super) fn counter(&mut self, family: &Family, labels: &[&str], value: u64) {
        self.fraction(family, labels, value as f64);
    }

    /// A counter of something that does not come in whole numbers.
    pub(super) fn fraction(&mut self, family: &Family, labels: &[&str], value: f64) {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = Metric::from_label(pairs(family, labels));
        metric.set_counter(counter);
        self.push(family, metric);
    }

    pub(super) fn gauge(&mut self, family: &Family, labels: &[&str], value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = Metric::from_label(pairs(family, labels));
        metric.set_gauge(gauge);
        self.push(family, metric);
    }

    pub(super) fn histogram(
        &mut self,
        family: &Family,
        labels: &[&str],
        totals: &Totals,
        result: RequestResult,
    ) {
        let mut so_far = 0;
        let buckets = BUCKET_MICROS.iter().zip(totals.took(result)).map(|(bound, number)| {
            so_far += number;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound as f64 / 1e6);
            bucket.set_cumulative_count(so_far);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(totals.requests(result));
        histogram.set_sample_sum(totals.took_in_all(result).as_secs_f64());
        let mut metric = Metric::from_label(pairs(family, labels));
        metric.set_histogram(histogram);
        self.push(family, metric);
    }

    fn push(&mut self, family: &Family, metric: Metric) {
        let place = *self.places.entry(family.name).or_insert_with(|| {
            let mut new = MetricFamily::default();
            new.set_name(family.name.into());
            new.set_help(family.help.into());
            new.set_field_type(family.kind);
            self.families.push(new);
            self.families.len() - 1
        });
        self.families[place].mut_metric().push(metric);
    }
}

fn pairs(family: &Family, values: &[&str]) -> Vec<LabelPair> {
    debug_assert_eq!(family.labels.len(), values.len(), "{} has other labels", family.name);
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).into());
        pair.set_value((*value).into());
        pair
    };
    family.labels.iter().zip(values).map(pair).collect()
}
