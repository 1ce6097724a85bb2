"""The Hub did not hand out a file: no such repository, no access, or no token.

What this means: the adapter, or the base it names, is asked for on the Hub, and the Hub answers 401, 403 or 404. PEFT often hides
this behind "Can't find 'adapter_config.json'". Nothing is wrong with the adapter itself.

Why it happens: the repository is private, gated, renamed or deleted; the token is missing where the code runs (a Space, a
container); or base_model_name_or_path is null, so that the address reads `https://huggingface.co/None/…`.

Detection: the status and the file in the address. `adapter_config.json` is asked of the adapter's repository, `config.json` of the
base's.

Fix: log in with a token that may read the repository (`hf auth login`, or HF_TOKEN), accept the licence on its page, or
correct the name. Where the base is meant, correct base_model_name_or_path in adapter_config.json.

Workaround: download the files where there is access, and give the local folder.

Prevention: keep an adapter's base available, and set base_model_name_or_path to a name that others can reach.

Setup:
    import http.server
    import threading
    from unittest import mock

    class Hub(http.server.BaseHTTPRequestHandler):  # stands for the Hub, which is asked without a token
        def do_HEAD(self):
            self.send_response(401)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    files = address + "/{repo_id}/resolve/{revision}/{filename}"
    where = {"ENDPOINT": address, "HUGGINGFACE_CO_URL_TEMPLATE": files, "HF_HUB_OFFLINE": False}
    the_hub = mock.patch.multiple("huggingface_hub.constants", **where)

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    with the_hub:
        model = PeftModel.from_pretrained(base, "somebody/private-adapter", cache_dir="cache")
    # raises ValueError: Can't find 'adapter_config.json' at 'somebody/private-adapter'

Fixed:
    # from the Hub: PeftModel.from_pretrained(base, "somebody/private-adapter", token=os.environ["HF_TOKEN"])
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import lacks_file, said, suspect
from adapterfit.records import Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import LogUrl, Symptoms

CAUSE = Cause(
    minutes=5,
    messages=(
        "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. Repository Not Found for url: https://huggingface.co/...",
        "ValueError: Can't find 'adapter_config.json' at 'somebody/private-adapter'",
        "huggingface_hub.errors.GatedRepoError: 403 Client Error. Cannot access gated repo for url https://huggingface.co/...",
    ),
)
_DENIED = frozenset({401, 403, 404})
_WEIGHTS = ("adapter_model.bin", "adapter_model.safetensors")

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "gated", "private repo", "hf_token", "access token", "use_auth_token",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {("huggingface_hub", "hf_raise_for_status"): 0.65, ("huggingface_hub", "get_hf_file_metadata"): 0.55}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: an address of the Hub with a status, or the Hub's own words."""
    urls = [u for u in symptoms.urls if u.repo and u.status in _DENIED and not u.file.endswith(_WEIGHTS)]
    told = said(
        symptoms,
        "repository not found for url",
        "gatedrepoerror",
        "cannot access gated repo",
        "repositorynotfounderror",
        "is not a valid model identifier",
        "invalid username or password",
        "you need to share contact information",
        "you must have access to it and be authenticated",
        "is restricted and you are not in the authorized list",
        "outgoing traffic has been disabled",
        "couldn't connect to 'https://huggingface.co'",
    )
    if urls:
        what = _asked(urls[0])
        model = bool(said(symptoms, "does not appear to have a file named config.json"))
        local = "/" not in urls[0].repo and urls[0].file.startswith("adapter_")
        sure = 0.3 if lacks_file(symptoms) else 0.5 if model or local else 0.92
        yield suspect(
            symptoms, f"the Hub answers {urls[0].status} for {quote(urls[0].file)} of {quote(urls[0].repo)}: {what}", sure,
            [url.line for url in urls], fix=_cure(urls[0]),
        )  # fmt: skip
    elif said(symptoms, "tried none and none") and said(symptoms, "private", "token", "gated"):
        yield suspect(
            symptoms, "the server gets no file of the adapter's repository: its token may not read it", 0.72, said(symptoms, "tried none and none"),
            fix="start the server with a token that may read the repository, or send it with the request", apart="whether the repository is public and has an adapter_config.json",
        )  # fmt: skip
    elif told:
        named = next((url for url in symptoms.urls if url.repo), None)
        weak = bool(said(symptoms, "does not appear to have a file named config.json"))
        asking = [frame.function for frame in symptoms.frames if frame.library == "peft"][-1:]
        sure = 0.5 if weak else 0.6 if asking == ["load_peft_weights"] else 0.86  # its config was handed out
        yield suspect(
            symptoms, "the Hub does not hand out the repository" + (f" {quote(named.repo)}" if named else ""), sure, told,
            fix=_cure(named) if named else "log in with a token that may read it (HF_TOKEN), or correct the name",
            apart="whether the name is that of the adapter or of its base",
        )  # fmt: skip


def _asked(url: LogUrl) -> str:
    if url.repo == "None":
        return "the name of the base is null in adapter_config.json"
    if url.file.endswith("adapter_config.json"):
        return "the adapter's repository is private, gated, renamed or gone"
    return "the base's repository is private, gated, renamed or gone"


def _cure(url: LogUrl) -> str:
    if url.repo == "None":
        return "set base_model_name_or_path in adapter_config.json to the base's name"
    return f"log in with a token that may read {quote(url.repo)} (HF_TOKEN, hf auth login), or correct the name"


def logs() -> dict[str, list[str]]:
    """Denied and gated; a missing weights file is another cause."""
    url = "https://huggingface.co/some/adapter/resolve/main/{}"
    return {
        "fires": [
            "A private adapter, served with LoRAX\nServer error: No valid adapter config file found: tried None and None",
            f"requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: {url.format('adapter_config.json')}",
            f"GatedRepoError: 403 Client Error. Cannot access gated repo for url {url.format('config.json')}.\nValueError: Can't find 'adapter_config.json' at 'x'",
        ],
        "silent": [
            "Server error: No valid adapter config file found: tried None and None",
            "EntryNotFoundError: 404 Client Error. Entry Not Found for url: https://huggingface.co/some/adapter/resolve/main/config.json.",
            f"requests.exceptions.HTTPError: 404 Client Error: Not Found for url: {url.format('adapter_model.bin')}",
        ],
    }
