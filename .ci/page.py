"""The page in a real browser, against a k1s that it starts: what people do with it, and what hostile
jobs do to it. Nothing may be asked of anyone else, and nothing may go wrong in the console. A scene
finds the jobs of those before it.
usage: page.py BINARY CHROMIUM DIRECTORY, called by .ci/page
"""

import contextlib
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request

from playwright.sync_api import expect, sync_playwright

TOKEN = "page-token"
BROWSER = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]
# Long enough for a machine under load: it matters only for failures.
DEADLINE = 20
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
AT_END = "() => { const box = document.getElementById('lines'); return box.scrollHeight - box.scrollTop - box.clientHeight < 30; }"
MARKUP = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>"


def sh(script, kind="continuous", **fields):
    return {"type": kind, "executable": "/bin/sh", "arguments": ["-c", script], **fields}


class K1s:
    """A k1s in a directory of its own."""

    def __init__(self, binary):
        self.binary = binary
        self.directory = tempfile.TemporaryDirectory()
        self.port = 0
        self.start()

    def start(self):
        with open(f"{self.directory.name}/k1s.toml", "w") as config:
            config.write(f'[http]\nhost = "127.0.0.1"\nport = {self.port}\nauth_token = "{TOKEN}"\n[output]\nforward = "none"\n')
        with open(f"{self.directory.name}/log", "w") as log:
            self.process = subprocess.Popen(
                [self.binary, "-c", "k1s.toml"], cwd=self.directory.name,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            )
        found = wait_for("k1s listens", lambda: re.search(r"http://127\.0\.0\.1:(\d+)\n", self.log()))
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def log(self):
        with open(f"{self.directory.name}/log") as log:
            return log.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE)

    def close(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        self.process.kill()
        self.process.wait()
        self.directory.cleanup()

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Authorization": f"Bearer {TOKEN}"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def create(self, name, spec):
        said = self.ask("POST", f"/job/{name}", spec)
        assert said.get("id") == name, said

    def state(self, name):
        return self.ask("GET", f"/job/{name}?output=false").get("state")


def wait_for(what, look):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if seen := look():
            return seen
        time.sleep(0.02)
    raise AssertionError(f"waited in vain: {what}")


class Tab:
    """A tab of a browser of its own, and all that it has asked for and complained of."""

    def __init__(self, browser, k1s, pictures, **settings):
        self.k1s, self.pictures = k1s, pictures
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.page.set_default_timeout(DEADLINE * 1000)
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self.hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.expected = ()

    def hear(self, message):
        if message.type not in ("error", "warning"):
            return
        if not any(text in message.text for text in self.expected):
            self.complaints.append(message.text)

    def log_in(self, path="/ui"):
        self.page.goto(self.k1s.url + path)
        self.page.fill("#token", TOKEN)
        self.page.press("#token", "Enter")
        expect(self.page.locator("#live")).to_contain_text("live")
        return self

    def row(self, name):
        return self.page.locator("#rows .row:not([hidden])").filter(has=self.page.locator(f".id:text-is('{name}')"))

    def open(self, name):
        self.page.goto(f"{self.k1s.url}/ui#/job/{name}")
        expect(self.page.locator("#detail h2")).to_have_text(name)
        expect(self.page.locator("#verbs button").first).to_be_visible()

    def verb(self, name):
        self.page.locator("#verbs button", has_text=re.compile("^" + name)).click()

    def lines(self):
        return self.page.locator("#lines .line > span")

    def longest_frame(self, during):
        """How long nothing could be clicked, at most, in so many milliseconds."""
        return self.page.evaluate("""(during) => new Promise((resolve) => {
            let longest = 0, before = performance.now();
            const end = before + during;
            const frame = () => {
                const at = performance.now();
                longest = Math.max(longest, at - before);
                before = at;
                at < end ? requestAnimationFrame(frame) : resolve(longest);
            };
            requestAnimationFrame(frame);
        })""", during)

    def picture(self, name):
        self.page.wait_for_timeout(150)
        self.page.screenshot(path=f"{self.pictures}/{name}.png")

    def close(self):
        elsewhere = [url for url in self.requests if not url.startswith((self.k1s.url + "/", "data:"))]
        assert not elsewhere, f"asked elsewhere: {elsewhere}"
        assert not self.complaints, f"the console says: {self.complaints}"
        wide, seen = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= seen, f"the page is {wide} wide, and {seen} can be seen"
        self.context.close()


# ---- Scenes ----

def logging_in(tab, k1s):
    tab.expected = ("403",)
    reply = tab.page.goto(k1s.url + "/ui")
    assert reply.headers["content-encoding"] == "gzip", reply.headers
    tab.picture("log-in")
    tab.page.fill("#token", "not-the-token")
    tab.page.press("#token", "Enter")
    expect(tab.page.locator("#login .trouble")).to_have_text("This is not the token of this k1s.")
    tab.picture("log-in-wrong")
    tab.page.fill("#token", "blanks are not allowed")
    tab.page.press("#token", "Enter")
    expect(tab.page.locator("#login .trouble")).to_contain_text("visible ASCII")
    assert tab.page.evaluate("sessionStorage.getItem('k1s-token')") is None
    tab.page.fill("#token", TOKEN)
    tab.page.press("#token", "Enter")
    expect(tab.page.locator("#app")).to_be_visible()
    expect(tab.page.locator("#none p")).to_have_text("There is no job yet.")
    tab.picture("empty")
    tab.page.reload()
    expect(tab.page.locator("#live")).to_contain_text("live")
    other = tab.context.new_page()
    other.goto(k1s.url + "/ui")
    expect(other.locator("#login")).to_be_visible()
    other.close()
    tab.page.click("#leave")
    expect(tab.page.locator("#login")).to_be_visible()
    assert tab.page.evaluate("sessionStorage.getItem('k1s-token')") is None


def living_table(tab, k1s):
    tab.log_in()
    k1s.create("web", sh("echo serving; exec sleep 1000", labels={"team": "shop"}))
    expect(tab.row("web").locator(".state")).to_have_text("running")
    k1s.create("nightly", sh("true", "cron", scheduleInSeconds=3 * 3600 + 60))
    expect(tab.row("nightly").locator(".time")).to_have_text("in 3 h")
    k1s.create("typo", {"type": "one-off", "executable": "/nowhere/program"})
    expect(tab.row("typo").locator(".state")).to_have_text("failed")
    expect(tab.row("typo").locator(".why")).to_contain_text("could not be started")
    k1s.create("done", sh("exit 0", "one-off"))
    expect(tab.row("done").locator(".state")).to_have_text("succeeded")
    k1s.ask("PUT", "/job/web/kill")
    expect(tab.row("web").locator(".state")).to_have_text("killed")
    k1s.ask("PUT", "/job/web/start")
    expect(tab.row("web").locator(".state")).to_have_text("running")
    expect(tab.page).to_have_title(re.compile(r"^1 failed · k1s on "))
    k1s.create("loser", sh("sleep 0.2; echo 'cannot bind port 80' >&2; exit 1", restart={"maxDelayMs": 60_000, "initialDelayMs": 5000}))
    expect(tab.row("loser").locator(".state")).to_have_text("backoff")
    shapes = tab.page.eval_on_selector_all("#rows .row:not([hidden]) .state use", "uses => uses.map(use => use.getAttribute('href'))")
    assert len(set(shapes)) == 5, f"each state has its shape: {shapes}"
    tab.picture("table")
    k1s.ask("DELETE", "/job/done")
    expect(tab.row("done")).to_have_count(0)


def keyboard(tab, k1s):
    tab.log_in()
    tab.page.locator("#rows").focus()
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("team=shop")
    expect(tab.page.locator("#rows .row:not([hidden])")).to_have_count(1)
    tab.page.keyboard.press("Escape")
    expect(tab.page.locator("#rows .row:not([hidden])")).to_have_count(4)
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("ArrowDown")
    expect(tab.page.locator("#rows .row.at .id")).to_have_text("nightly")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#detail h2")).to_have_text("nightly")
    tab.page.keyboard.press("Escape")
    expect(tab.page.locator("#detail")).to_be_hidden()
    ids = lambda: tab.page.eval_on_selector_all(
        "#rows .row:not([hidden])", "rows => rows.sort((a, b) => a.getBoundingClientRect().y - b.getBoundingClientRect().y).map(row => row.children[1].textContent)")
    assert ids() == ["loser", "nightly", "typo", "web"], ids()
    tab.page.click(".head .state")
    wait_for("failed jobs first", lambda: ids()[0] == "typo")
    tab.page.click(".head .id")
    tab.page.click(".head .id")
    wait_for("the other way round", lambda: ids() == ["web", "typo", "nightly", "loser"])
    tab.page.click("#states button[data-state=failed]")
    wait_for("the failed ones", lambda: ids() == ["typo"])


def output(tab, k1s):
    tab.log_in()
    script = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; done; while [ ! -e more ]; do sleep 0.05; done; echo needle >&2; exec sleep 1000"
    k1s.create("talker", sh(script))
    tab.open("talker")
    expect(tab.lines()).to_have_count(300)
    tab.page.wait_for_function(AT_END)
    open(f"{k1s.directory.name}/more", "w").close()
    expect(tab.lines().last).to_have_text("needle")
    tab.page.wait_for_function(AT_END)
    expect(tab.page.locator("#lines .line.stderr")).to_have_count(1)
    tab.page.fill("#search", "LINE 29")
    expect(tab.page.locator("#hits")).to_have_text("11")
    tab.page.press("#search", "Enter")
    expect(tab.page.locator("#hits")).to_have_text("1 of 11")
    expect(tab.page.locator("#lines .line.now mark")).to_have_text("line 29")
    expect(tab.page.locator("#follow")).to_have_attribute("aria-pressed", "false")
    tab.picture("output")
    tab.page.press("#search", "Escape")
    expect(tab.page.locator("#lines mark")).to_have_count(0)
    tab.page.click("#follow")
    tab.page.wait_for_function(AT_END)
    tab.page.select_option("#stream", "stderr")
    expect(tab.lines()).to_have_text(["needle"])


def flood(tab, k1s):
    tab.log_in()
    k1s.create("flood", sh("yes 'a line of a flood'"))
    tab.open("flood")
    expect(tab.lines().nth(4000)).to_be_attached()
    longest = tab.longest_frame(3000)
    count = tab.lines().count()
    print(f"   lines as fast as they come: the longest frame took {longest:.0f} ms")
    assert longest < 1500 and count < 6000, (longest, count)
    expect(tab.page.locator("#follow")).to_have_attribute("aria-pressed", "true")
    k1s.ask("DELETE", "/job/flood")
    expect(tab.page.locator("#detail")).to_be_hidden()


def history(tab, k1s):
    tab.log_in()
    k1s.create("runner", sh("echo run $K1S_RUN; [ ${K1S_RUN##*.} != 2 ]", "cron", scheduleInSeconds=3600))
    for number in (1, 2, 3):
        k1s.ask("PUT", "/job/runner/run")
        wait_for("the run is over", lambda: len(k1s.ask("GET", "/job/runner")["results"]) == number)
    tab.open("runner")
    expect(tab.page.locator("#runs button")).to_have_count(3)
    expect(tab.page.locator("#runs button").nth(1)).to_contain_text("exit code 1")
    expect(tab.page.locator("#runs .trigger").first).to_have_text("request")
    expect(tab.page.locator("#lane button.bad")).to_have_count(1)
    expect(tab.page.locator("#lane button.good")).to_have_count(2)
    tab.page.locator("#runs button").nth(1).click()
    expect(tab.lines()).to_have_count(1)
    expect(tab.lines()).to_contain_text([".2"])
    tab.page.select_option("#which", "all")
    expect(tab.lines()).to_have_count(3)
    tab.page.locator("#spec summary").click()
    expect(tab.page.locator("#spec pre")).to_contain_text('"schedule": 3600')
    text = tab.page.locator("#spec pre").inner_text()
    assert k1s.ask("PUT", "/job/runner", json.loads(text)) == {"message": "Job unchanged", "id": "runner"}
    assert "results" not in json.loads(text)
    tab.picture("history")


def dependencies(tab, k1s):
    tab.log_in()
    k1s.create("db", sh("while [ ! -e go ]; do sleep 0.05; done; echo ready to accept; exec sleep 1000", readiness={"log": "ready to accept"}))
    k1s.create("app", sh("exec sleep 1000", dependsOn={"db": "ready"}))
    expect(tab.row("app").locator(".state")).to_have_text("waiting")
    expect(tab.row("app").locator(".why")).to_contain_text("waits for db to be ready")
    starting = lambda: tab.row("db").locator(".state use").get_attribute("href")
    assert starting() == "#s-starting", "what is not ready does not look like it"
    tab.open("app")
    expect(tab.page.locator("#facts")).to_contain_text("Waits fordb (ready)")
    tab.picture("dependencies")
    open(f"{k1s.directory.name}/go", "w").close()
    expect(tab.row("app").locator(".state")).to_have_text("running")
    wait_for("db looks ready", lambda: starting() == "#s-running")
    tab.open("db")
    expect(tab.page.locator("#facts")).to_contain_text("Readyyes")
    for name in ("db", "app"):
        k1s.ask("DELETE", f"/job/{name}")
        expect(tab.row(name)).to_have_count(0)


def verbs(tab, k1s):
    tab.log_in()
    k1s.create("daemon", sh("trap 'echo got USR1' USR1; trap 'exit 0' TERM; while :; do sleep 0.05; done"))
    tab.open("daemon")
    state = tab.page.locator(".title .state")
    tab.verb("Kill")
    expect(tab.page.locator("#ask")).to_contain_text("SIGTERM")
    tab.picture("question")
    tab.page.locator("#ask button", has_text="Cancel").click()
    assert k1s.state("daemon") == "running"
    tab.verb("Kill")
    tab.page.keyboard.press("Escape")
    assert k1s.state("daemon") == "running"
    tab.verb("Signal")
    tab.page.select_option("#ask select", "SIGUSR1")
    tab.page.locator("#ask .main").click()
    expect(tab.lines().first).to_have_text("got USR1")
    tab.verb("Kill")
    tab.page.locator("#ask .main").click()
    expect(state).to_have_text("killed")
    expect(tab.page.locator("#verbs button", has_text="Signal")).to_be_disabled()
    tab.verb("Start")
    expect(state).to_have_text("running")
    tab.verb("Restart")
    tab.page.locator("#ask .main").click()
    wait_for("it was restarted", lambda: len(k1s.ask("GET", "/job/daemon")["results"]) == 2)
    expect(state).to_have_text("running")
    k1s.create("report", sh("echo made", "cron", scheduleInSeconds=3600))
    tab.open("report")
    tab.verb("Run now")
    expect(tab.lines()).to_have_text(["made"])
    tab.expected = ("400",)
    k1s.ask("PUT", "/job/report/kill")
    expect(tab.page.locator("#verbs button", has_text="Run now")).to_be_disabled()


def creation(tab, k1s):
    tab.log_in()
    tab.expected = ("400",)
    tab.page.click("#new")
    trouble = tab.page.locator("#editor .trouble")
    tab.page.fill("#new-id", ".hidden")
    tab.page.locator("#editor .main").click()
    expect(trouble).to_contain_text("Invalid job id")
    tab.page.fill("#new-id", "made")
    tab.page.fill("#body", '{"type": "one-off",\n "executable": "echo", }')
    tab.page.locator("#editor .main").click()
    expect(trouble).to_contain_text("not JSON")
    tab.page.fill("#body", '{"type": "one-off", "executabel": "echo"}')
    tab.page.locator("#editor .main").click()
    expect(trouble).to_contain_text("executable")
    tab.picture("creation")
    tab.page.select_option("#template", "a task, once")
    tab.page.press("#body", "Control+Enter")
    expect(tab.page.locator("#detail h2")).to_have_text("made")
    expect(tab.lines()).to_have_text(["hello"])
    tab.verb("Edit")
    tab.page.fill("#body", tab.page.input_value("#body").replace("echo hello", "echo changed"))
    tab.page.locator("#editor .main").click()
    expect(tab.lines().last).to_have_text("changed")


def removal(tab, k1s):
    # The page may have asked for the job just as it was removed.
    tab.expected = ("404",)
    tab.log_in()
    k1s.create("precious-1.2", sh("exec sleep 1000"))
    tab.open("precious-1.2")
    tab.verb("Remove")
    yes = tab.page.locator("#ask .main")
    for typed in ("", "precious", "precious-1x2"):
        tab.page.fill("#ask input", typed)
        expect(yes).to_be_disabled()
        tab.page.press("#ask input", "Enter")
    tab.picture("removal")
    assert k1s.state("precious-1.2") == "running"
    tab.page.fill("#ask input", "precious-1.2")
    yes.click()
    expect(tab.page.locator("#detail")).to_be_hidden()
    assert k1s.ask("GET", "/job/precious-1.2") == {"error": "Job not found"}


def hostile(tab, k1s):
    tab.log_in()
    script = r"""
        printf '%s\n' "$TEXT"; printf '\033[31mred\033[0m \033[2J\033[H\033]0;title\007 plain\n'
        printf 'a\342\200\256gpj.exe\n'; printf '\327\251\327\234\327\225\327\235\n'
        printf 'nul\000 and \010\010 back\n'; printf '\377\376\n'
        head -c 300000 /dev/zero | tr '\0' 'W'; echo; echo end; exec sleep 1000"""
    spec = sh(script, environment={"TEXT": MARKUP}, labels={MARKUP: MARKUP}, output={"limitBytes": 1 << 20})
    k1s.create("a-job_with~:@+.all", spec)
    k1s.create("x" * 128, {"type": "one-off", "executable": MARKUP, "arguments": [MARKUP]})
    tab.open("a-job_with~:@+.all")
    expect(tab.lines().last).to_have_text("end")
    text = "\n".join(tab.lines().all_text_contents())
    assert MARKUP in text and "red" in text
    assert "\x1b" not in text and "title" not in text and "\u202e" not in text, text[:500]
    assert "⟨U+202E⟩" in text and "␀" in text, text[:500]
    expect(tab.page.locator("#lines .c1")).to_have_text("red")
    tab.page.wait_for_function(AT_END)
    tab.page.locator("#spec summary").click()
    expect(tab.page.locator("#spec pre")).to_contain_text("onerror")
    tab.picture("hostile")
    tab.open("x" * 128)
    expect(tab.page.locator(".message")).to_contain_text("<img src=x")
    tab.picture("hostile-name")
    assert tab.page.evaluate("[window.hacked, document.images.length, document.scripts.length]") == [None, 0, 1]
    # And the policy of the page would not have let it run.
    tab.expected = ("Content Security Policy", "TrustedHTML", "'none'")
    blocked = tab.page.evaluate("() => { try { document.body.innerHTML = '<b>'; return false; } catch { return true; } }")
    assert blocked, "text may become markup"


def many_jobs(tab, k1s):
    # It asks for jobs that are removed meanwhile.
    tab.expected = ("404",)
    for number in range(3000):
        k1s.create(f"job-{number:04}", {"type": "cron", "scheduleInSeconds": 3600 + number, "executable": "true"})
    tab.log_in()
    expect(tab.page.locator("#live")).to_contain_text(re.compile(r"30\d\d jobs"))
    assert tab.page.locator("#rows .row").count() < 60
    tab.page.evaluate("document.getElementById('rows').scrollTop = 1e9")
    expect(tab.row("web")).to_be_visible()
    for number in range(30):
        k1s.create(f"storm-{number}", sh("exit 1", restart={"initialDelayMs": 0, "maxDelayMs": 0}))
    count = lambda: sum(int(value) for value in re.findall(r"k1s_events_total (\d+)", metrics(k1s)))
    begin = count()
    longest = tab.longest_frame(3000)
    events = count() - begin
    tab.page.fill("#filter", "storm-7")
    expect(tab.row("storm-7")).to_be_visible()
    tab.picture("many")
    print(f"   {events} events in about 3 s, 3,000 jobs: the longest frame took {longest:.0f} ms")
    assert events > 500 and longest < 1500, (events, longest)
    for number in range(30):
        k1s.ask("DELETE", f"/job/storm-{number}")
    expect(tab.row("storm-7")).to_have_count(0)


def metrics(k1s):
    request = urllib.request.Request(k1s.url + "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=DEADLINE) as reply:
        return reply.read().decode()


def restarted(tab, k1s):
    tab.log_in()
    tab.page.fill("#filter", "loser")
    expect(tab.row("loser")).to_be_visible()
    tab.open("talker")
    tab.expected = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "404")
    k1s.stop()
    expect(tab.page.locator("#banner")).to_contain_text("does not answer")
    expect(tab.page.locator("#live")).to_contain_text("not connected")
    tab.picture("lost")
    k1s.start()
    k1s.create("new", sh("echo new; exec sleep 1000"))
    expect(tab.page.locator("#banner")).to_be_hidden()
    tab.page.fill("#filter", "")
    expect(tab.row("new").locator(".state")).to_have_text("running")
    expect(tab.row("loser")).to_have_count(0)
    expect(tab.page.locator("#detail")).to_be_hidden()


def hidden(tab, k1s):
    """A tab that nobody looks at gives its connections back, and goes on where it was."""
    tab.page.clock.install()
    tab.log_in()
    k1s.create("ticker", sh("i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo tick $i; sleep 0.1; done; exec sleep 1000"))
    tab.open("ticker")
    expect(tab.lines().nth(2)).to_be_attached()
    turn = "(is) => { Object.defineProperty(document, 'hidden', { value: is, configurable: true }); document.dispatchEvent(new Event('visibilitychange')); }"
    tab.page.evaluate(turn, True)
    tab.page.clock.fast_forward(61_000)
    expect(tab.page.locator("#live")).to_contain_text("not connected")
    before = len(tab.requests)
    tab.page.clock.run_for(5_000)
    assert not [url for url in tab.requests[before:] if "/events" in url], "it asks while nobody looks"
    tab.page.evaluate(turn, False)
    tab.page.clock.run_for(5_000)
    expect(tab.page.locator("#live")).to_contain_text("live")
    wait_for("lines go on", lambda: tab.page.clock.run_for(500) or tab.lines().count() > 30)
    numbers = [int(text.split()[1]) for text in tab.lines().all_text_contents()]
    assert numbers == list(range(1, len(numbers) + 1)), numbers


def telephone(tab, k1s):
    tab.log_in()
    k1s.create("web", sh("i=0; while :; do i=$((i+1)); echo \"GET /index.html 200, request $i\"; sleep 0.1; done"))
    k1s.create("task", sh("echo 'no such table: users' >&2; exit 3", "one-off"))
    expect(tab.row("task").locator(".state")).to_have_text("failed")
    tab.picture("phone")
    tab.row("web").tap()
    expect(tab.page.locator("#list")).to_be_hidden()
    expect(tab.lines().nth(3)).to_be_attached()
    tab.picture("phone-job")
    tab.page.locator("#output").scroll_into_view_if_needed()
    tab.picture("phone-output")
    tab.verb("Kill")
    tab.picture("phone-question")
    tab.page.locator("#ask button", has_text="Cancel").tap()
    tab.page.locator(".back").tap()
    expect(tab.page.locator("#list")).to_be_visible()
    tab.page.tap("#new")
    tab.picture("phone-creation")
    tab.page.locator("#editor .cancel").tap()


def dark(tab, k1s):
    tab.log_in()
    shade = tab.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert max(map(int, re.findall(r"\d+", shade))) < 40, shade
    k1s.create("flaky", sh("sleep 0.$K1S_JOB 2>/dev/null; echo oops >&2; exit 1", restart={"initialDelayMs": 300, "maxDelayMs": 2000}))
    wait_for("it has failed", lambda: len(k1s.ask("GET", "/job/flaky")["results"]) > 3)
    expect(tab.row("flaky")).to_be_visible()
    tab.picture("dark")
    tab.open("flaky")
    expect(tab.page.locator("#lane button.bad").nth(2)).to_be_visible()
    tab.picture("dark-job")
    tab.page.click("#new")
    tab.picture("dark-creation")
    tab.page.locator("#editor .cancel").click()


SCENES = [
    (logging_in, DESKTOP), (living_table, DESKTOP), (keyboard, DESKTOP), (output, DESKTOP), (flood, DESKTOP), (history, DESKTOP),
    (dependencies, DESKTOP), (verbs, DESKTOP), (creation, DESKTOP), (removal, DESKTOP), (hostile, DESKTOP), (many_jobs, DESKTOP),
    (restarted, DESKTOP), (hidden, DESKTOP), (telephone, PHONE), (dark, {**DESKTOP, "color_scheme": "dark"}),
]


def main(binary, chromium, pictures, *chosen):
    k1s, failures = K1s(binary), 0
    expect.set_options(timeout=DEADLINE * 1000)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER)
            for scene, settings in SCENES:
                if chosen and scene.__name__ not in chosen:
                    continue
                tab = Tab(browser, k1s, pictures, **settings)
                try:
                    scene(tab, k1s)
                    tab.close()
                    print(f"ok: {scene.__name__}", flush=True)
                except Exception as error:
                    failures += 1
                    tab.page.screenshot(path=f"{pictures}/FAILED-{scene.__name__}.png")
                    traceback.print_exception(error)
                    print(f"FAILED: {scene.__name__}\n   {tab.complaints}", flush=True)
                    tab.context.close()
            browser.close()
    finally:
        k1s.close()
    print(f"pictures are in {pictures}")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
