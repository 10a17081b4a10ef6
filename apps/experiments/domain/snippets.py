"""How a caller takes part, in ten lines: ask for the arm, send its header on, say what happened. Run by the tests."""

from __future__ import annotations

from collections.abc import Mapping

PYTHON = """import json, os, urllib.request

API, GATEWAY = "{api}", "{gateway}"
KEY = {{"Authorization": "Bearer " + os.environ["PILOTHOUSE_KEY"]}}

def post(url, body, headers={{}}):
    asked = urllib.request.Request(url, json.dumps(body).encode(), {{"Content-Type": "application/json", **headers}})
    return json.load(urllib.request.urlopen(asked, timeout=5))

def predict(user, rows):
    told = post(API + "/assignments", {{"units": [user], "record_exposure": True}}, KEY)
    arm = told["arms"][0]  # None: takes no part, and the stable version answers
    return post(GATEWAY + "/invocations", rows, {{told["header"]: told["values"][arm]}} if arm else {{}})

def happened(user, event, event_id, value=1):
    return post(API + "/outcomes", {{"ids": [event_id], "units": [user], "events": [event], "values": [value]}}, KEY)
"""

JAVASCRIPT = """const API = "{api}", GATEWAY = "{gateway}";
const KEY = {{ Authorization: "Bearer " + process.env.PILOTHOUSE_KEY }};
const post = async (url, body, headers = {{}}) => {{
  const asked = {{ method: "POST", headers: {{ "Content-Type": "application/json", ...headers }}, body: JSON.stringify(body) }};
  const answer = await fetch(url, {{ ...asked, signal: AbortSignal.timeout(5000) }});
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}};
const predict = async (user, rows) => {{
  const told = await post(API + "/assignments", {{ units: [user], record_exposure: true }}, KEY);
  const arm = told.arms[0]; // null: takes no part, and the stable version answers
  return post(GATEWAY + "/invocations", rows, arm ? {{ [told.header]: told.values[arm] }} : {{}});
}};
const happened = (user, event, id, value = 1) =>
  post(API + "/outcomes", {{ ids: [id], units: [user], events: [event], values: [value] }}, KEY);
"""  # noqa: E501  a line of JavaScript

CURL = """API={api} GATEWAY={gateway}
ask() {{ curl -sSf --max-time 5 -H 'Content-Type: application/json' "$@"; }}
told=$(ask "$API/assignments" -H "Authorization: Bearer $PILOTHOUSE_KEY" \\
  -d "{{\\"units\\": [\\"$USER_ID\\"], \\"record_exposure\\": true}}")
arm=$(printf %s "$told" | sed -n 's/.*"arms":\\["\\([a-z]*\\)".*/\\1/p')  # empty: takes no part
value=$(printf %s "$told" | sed -n "s/.*\\"$arm\\":\\"\\([^\\"]*\\)\\".*/\\1/p")
ask "$GATEWAY/invocations" -H "x-pilothouse-arm: $value" -d "$ROWS"
ask "$API/outcomes" -H "Authorization: Bearer $PILOTHOUSE_KEY" \\
  -d "{{\\"ids\\": [\\"$EVENT_ID\\"], \\"units\\": [\\"$USER_ID\\"], \\"events\\": [\\"$EVENT\\"]}}"
"""

SNIPPETS: Mapping[str, str] = {"python": PYTHON, "javascript": JAVASCRIPT, "curl": CURL}


def snippet(language: str, *, api: str, gateway: str) -> str:
    """The lines in ``python``, ``javascript`` or ``curl``. ``api``: the experiment's address below /api/v1;
    ``gateway``: the endpoint's. The key is read from the environment, never written here."""
    return SNIPPETS[language].format(api=api, gateway=gateway)
