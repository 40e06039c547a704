"""What schemathesis needs to know of k1s: jobs run /bin/true, whatever else was generated."""
import os
import urllib.error
import urllib.request

import schemathesis
from hypothesis import strategies as st

HARMLESS = "/bin/true"
# So many jobs are kept, for what follows on them; older ones are removed.
KEPT = 20
PROBES = ("readiness", "liveness")
# What may hold a command.
HOLDERS = (*PROBES, "reload", "stop")

schemathesis.openapi.format(
    "cron", st.sampled_from(["@daily", "*/5 * * * *", "0 0 1 jan *", "30 4 * * mon-fri", "0 0 2 30 6 *"])
)
schemathesis.openapi.format("log-file", st.sampled_from(["{job}.log", "/tmp/{job}-{run}.log"]))
schemathesis.openapi.format("probe-url", st.sampled_from(["http://localhost:9/x", "http://[::1]:9/?a=b"]))
schemathesis.openapi.format("probe-address", st.sampled_from(["127.0.0.1:9", "[::1]:9", "localhost:9"]))
schemathesis.openapi.format("time-zone", st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]))

# What a 400 says about the state that a job is in; all others are about the request.
ABOUT_STATE = (
    "already exists",
    "is of another type",
    "does not support",
    "was killed; start it first",
    "has an active run",
    "has no running process",
    "does not run before",
    "cannot wait for itself",
    "is a circle",
)

created = []


@schemathesis.check
def valid_requests_are_accepted(context, response, case):
    is_valid = case.meta is not None and case.meta.generation.mode.is_positive
    if is_valid and response.status_code == 400:
        error = response.json()["error"]
        if case.operation.method.upper() == "PATCH":
            # What comes of a patch depends on the job that is there.
            assert "unknown field" not in error, error
            return
        assert any(text in error for text in ABOUT_STATE), error


@schemathesis.check
def strangers_are_refused(context, response, case):
    shown = response.request.headers.get("Authorization")
    if shown != f"Bearer {os.environ['TOKEN']}" and case.operation.path not in ("/healthz", "/ui"):
        assert response.status_code == 403, response.status_code


def keep_valid_query(query):
    """As below."""
    if "wait" not in query:
        query.pop("for", None)
    if "after" in query:
        query["format"] = "ndjson"
        query.pop("tail", None)


def keep_valid(body):
    """What JSON Schema cannot say: what fields say of each other."""
    if body.get("type") == "cron":
        if body.get("schedule") is not None:
            body.pop("scheduleInSeconds", None)
        if not isinstance(body.get("schedule"), str):
            body.pop("timeZone", None)
        for on in (body.get("dependsOn") or {}).values():
            if isinstance(on, dict):
                on.pop("restart", None)
    if not isinstance(body.get("readiness"), dict):
        body.pop("startTimeoutSeconds", None)
    for name in PROBES:
        probe = body.get(name) or {}
        if isinstance(probe.get("http"), dict) and isinstance(probe["http"].get("status"), list):
            probe["http"]["status"].sort()
    for limit in (body.get("limits") or {}).values():
        if isinstance(limit, dict) and above(limit["soft"], limit["hard"]):
            limit["soft"], limit["hard"] = limit["hard"], limit["soft"]


def is_command(value):
    is_text = isinstance(value, list) and all(isinstance(part, str) and "\0" not in part for part in value)
    return is_text and bool(value) and bool(value[0])


def above(soft, hard):
    return hard != "unlimited" and (soft == "unlimited" or soft > hard)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Nothing but HARMLESS is ever run, no loop of restarts without a delay, no long wait."""
    query = case.query or {}
    if isinstance(query.get("wait"), (int, float)):
        query["wait"] = min(query["wait"], 1)
    if query.get("follow") == "true":
        query["follow"] = "false"
    is_valid = case.meta is not None and case.meta.generation.mode.is_positive
    if is_valid:
        keep_valid_query(query)
        if case.operation.path.startswith("/jobs/"):
            query["all"] = "true"
            case.query = query
    body = case.body
    if not isinstance(body, dict):
        return
    if is_valid:
        keep_valid(body)
    executable = body.get("executable")
    if isinstance(executable, str) and executable and "\0" not in executable:
        body["executable"] = HARMLESS
    for name in HOLDERS:
        holder = body.get(name)
        if isinstance(holder, dict) and is_command(holder.get("exec")):
            holder["exec"] = [HARMLESS]
    # The end of a critical job would be the end of k1s.
    if body.get("critical") in (True, "on-failure"):
        body["critical"] = False
    restart = body.get("restart")
    if isinstance(restart, dict):
        for name in ("initialDelayMs", "maxDelayMs"):
            if isinstance(restart.get(name), int):
                restart[name] = max(restart[name], 60_000)


@schemathesis.hook
def after_call(context, case, response):
    if case.method in ("POST", "PUT") and case.operation.path == "/job/{id}" and response.status_code == 200:
        created.append(response.request.url.split("?")[0])
    while len(created) > KEPT:
        request = urllib.request.Request(
            created.pop(0), method="DELETE", headers={"Authorization": f"Bearer {os.environ['TOKEN']}"}
        )
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except urllib.error.HTTPError:
            pass
