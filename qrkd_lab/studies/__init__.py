"""Studies: the method, many times: settings, benchmarks, records, comparisons, reports."""
