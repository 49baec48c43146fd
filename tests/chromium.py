"""A headless Chromium, told what to do over its DevTools protocol: enough to look at a page, press keys, and listen."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess

from tornado.websocket import websocket_connect

COMMAND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--disable-dev-shm-usage",
)  # fmt: skip
_LOADED = "new Promise(d => document.readyState === 'complete' ? d() : addEventListener('load', () => d()))"
_SETTLED = """new Promise(done => {
  const look = () => {
    const count = typeof viewer === 'object' ? viewer.world.getItemCount() : 0;
    const items = Array.from({ length: count }, (_, index) => viewer.world.getItemAt(index));
    const still = items.length > 0 && items.every(item => item.getOpacity() === 0 || item.getFullyLoaded());
    if (still) requestAnimationFrame(() => requestAnimationFrame(() => done()));
    else setTimeout(look, 30);
  };
  look();
})"""


class Chromium:
    """A browser with one page. Use it in a `with`."""

    def __init__(self, folder):
        self._browser = subprocess.Popen(
            [COMMAND, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        lines = iter(self._browser.stderr.readline, "")
        address = next(line.split()[-1] for line in lines if "DevTools listening on" in line)
        self._loop = asyncio.new_event_loop()
        self._socket = self._waited(websocket_connect, address, max_message_size=1 << 26)
        self._count = 0
        self._session = None
        self.events = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session = None
        self.ask("Browser.close")
        self._socket.close()
        self._browser.wait(30)
        self._browser.stderr.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _waited(self, function, *args, **options):
        async def called():
            return await asyncio.wait_for(function(*args, **options), 60)

        return self._loop.run_until_complete(called())

    def ask(self, method, **parameters):
        """What the browser answers to a command; events that come before it are kept in `events`."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._waited(self._socket.write_message, json.dumps(message))
        while True:
            said = json.loads(self._waited(self._socket.read_message))
            if said.get("id") == self._count:
                assert "error" not in said, said
                return said["result"]
            self.events.append(said)

    def run(self, script):
        """The value of a script in the page; a promise is waited for."""
        found = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, url, width, height, theme="light", settled=_SETTLED):
        """Show a page at a size, and wait until it has all its tiles, or until the script `settled` has ended."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.ask("Emulation.setDeviceMetricsOverride", **metrics)
        features = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
        self.ask("Emulation.setEmulatedMedia", features=[{"name": n, "value": v} for n, v in features.items()])
        self.ask("Page.navigate", url=url)
        self.run(_LOADED)
        self.run(settled)

    def settle(self):
        """Wait until all tiles of the page are there and drawn."""
        self.run(_SETTLED)

    def press(self, key, number=0):
        """Press and release a key, named as `KeyboardEvent.key` names it; number: its Windows key code."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        shared = {"key": key, "code": key, "windowsVirtualKeyCode": number}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **shared, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **shared)

    def screenshot(self, path, *, whole=False):
        """Write what is seen, or the whole page, as PNG."""
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def requested(self):
        """Addresses that were asked for so far."""
        self.run("0")
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self):
        """What the browser complained of so far: exceptions, policies, requests that failed."""
        self.run("0")
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Network.loadingFailed")
        return [e for e in self.events if e["method"] in kinds]
