"""Reads the two files with prometheus_client: usage: metrics.py TEXT OPENMETRICS"""
import sys

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client import parser as text


def samples(families):
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


in_text = list(text.text_string_to_metric_families(open(sys.argv[1]).read()))
in_open = list(openmetrics.text_string_to_metric_families(open(sys.argv[2]).read()))

# Both say the same, but for what has changed between the two answers.
assert samples(in_text).keys() == samples(in_open).keys()
assert [f.documentation for f in in_text] == [f.documentation for f in in_open]
kinds = {f.name: f.type for f in in_open}
for family in in_text:
    # This parser takes _total off the names of counters, as OpenMetrics does; info it does not know.
    name = family.name.removesuffix("_info")
    assert kinds[name] == ("info" if name != family.name else family.type), family.name
for family in in_open:
    unit = next((unit for unit in ("seconds", "bytes") if family.name.endswith("_" + unit)), "")
    assert family.unit == unit, family.name

got = samples(in_open)
of = lambda name, **labels: got[name, tuple(sorted(labels.items()))]
assert of("k1s_job_runs_total", id="good", outcome="succeeded") == 1
assert of("k1s_job_runs_total", id="missing", outcome="spawn-failed") == 1
assert of("k1s_job_output_bytes_total", id="good", stream="stdout") == 6
assert of("k1s_job_last_exit_code", id="~a:b@c+d.e") == 1
assert of("k1s_job_state", id="web", state="running") == 1
assert of("k1s_job_processes", id="web") == 1
assert of("k1s_job_resident_memory_bytes", id="web") > 4096
info = [dict(labels) for name, labels in got if name == "k1s_job_info"]
wanted = {"id": "~a:b@c+d.e", "type": "one-off", "label_team": '"\\\n', "label_a_b": "é"}
assert wanted in info, info
print(f"ok: prometheus_client, {len(in_open)} families, {len(got)} samples")
