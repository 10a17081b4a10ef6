"""A real Kubernetes control plane for tests: etcd, API server, controllers, scheduler, and nodes that only pretend.

``KUBEBUILDER_ASSETS`` names the folder with etcd, kube-apiserver, kube-controller-manager and kube-scheduler (the
convention of envtest); ``PILOTHOUSE_FAKE_KUBELET`` the program that plays the nodes, with the folder ``crds`` beside
it, where it is not at ``shared/kubernetes`` beside the checkout. Everything listens on loopback, on ports of its own.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from kubernetes import client

from tests.targets.kubernetes.calling import Calling
from tests.targets.kubernetes.certificates import certificate, kubeconfig

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
ROOT = Path(__file__).resolve().parents[3]
ADMIN_TOKEN, LIMITED_TOKEN, STORM_TOKEN = "admin-token", "limited-token", "storm-token"
ISSUER = "https://kubernetes.default.svc"
START_SECONDS = 120.0
JSON = dict[str, Any]


def missing() -> str:
    """What is not there, and how to provide it; empty when everything is."""
    folder = os.environ.get("KUBEBUILDER_ASSETS", "")
    if not folder:
        return f"set KUBEBUILDER_ASSETS to a folder with {', '.join(PROGRAMS)} (1.36)"
    absent = [name for name in PROGRAMS if not (Path(folder) / name).is_file()]
    if absent:
        return f"KUBEBUILDER_ASSETS={folder} has no {', '.join(absent)}"
    if not fake_kubelet().is_file():
        return f"set PILOTHOUSE_FAKE_KUBELET: there is no {fake_kubelet()}"
    return ""


def fake_kubelet() -> Path:
    named = os.environ.get("PILOTHOUSE_FAKE_KUBELET")
    return Path(named) if named else ROOT.parent / "shared" / "kubernetes" / "fake_kubelet.py"


@dataclass
class Cluster(Calling):
    """Where it is, and who may do what: ``ADMIN_TOKEN`` everything, ``LIMITED_TOKEN`` what a test grants,
    ``STORM_TOKEN`` everything as well, but the server can be told to have no time for it."""

    folder: Path
    port: int
    server: subprocess.Popen[bytes]
    start_server: Any

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self.folder / "tls.crt"

    def configuration(self, token: str = ADMIN_TOKEN) -> client.Configuration:
        found = client.Configuration()
        found.host, found.ssl_ca_cert, found.retries = self.url, str(self.ca_file), False
        found.api_key = {"BearerToken": f"Bearer {token}"}
        return found

    def stop_server(self) -> None:
        self.server.kill()  # asked nicely it would wait for its watchers to leave
        self.server.wait(30)

    def restart_server(self) -> None:
        self.server = self.start_server()
        _wait_for(self)

    def token_for(self, seconds: float) -> str:
        """An administrator's token that ends so soon: one of a service account, signed as the server signs them."""
        path = "/api/v1/namespaces/kube-system/serviceaccounts"
        name = f"short-{time.time_ns():x}"
        made = self.call("POST", path, {"metadata": {"name": name}})
        subject = {"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [subject],
        }
        self.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
        at = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": [ISSUER],
            "iat": at,
            "nbf": at,
            "exp": at + max(1, int(seconds)),
            "sub": f"system:serviceaccount:kube-system:{name}",
            "kubernetes.io": {
                "namespace": "kube-system",
                "serviceaccount": {"name": name, "uid": made["metadata"]["uid"]},
            },
        }
        return jwt.encode(
            claims, (self.folder / "tls.key").read_text(), algorithm="RS256", headers={"kid": _kid(self.folder)}
        )

    @contextmanager
    def storm(self) -> Iterator[None]:
        """The server's own flow control answers ``STORM_TOKEN`` with 429: a priority level without seats or queue.

        A level that is idle takes one request even so; one whose body never comes is that one.
        """
        base = "/apis/flowcontrol.apiserver.k8s.io/v1"
        limited = {"nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0}
        level = {
            "metadata": {"name": "storm"},
            "spec": {"type": "Limited", "limited": {**limited, "limitResponse": {"type": "Reject"}}},
        }
        everything = [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
        ]
        rules = [
            {
                "subjects": [{"kind": "User", "user": {"name": "stormy"}}],
                "resourceRules": everything,
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            }
        ]
        flow = {
            "metadata": {"name": "storm"},
            "spec": {
                "priorityLevelConfiguration": {"name": "storm"},
                "matchingPrecedence": 10,
                "distinguisherMethod": {"type": "ByUser"},
                "rules": rules,
            },
        }
        self.call("POST", f"{base}/prioritylevelconfigurations", level)
        self.call("POST", f"{base}/flowschemas", flow)
        try:
            with self._unfinished_request():
                yield
        finally:
            self.call("DELETE", f"{base}/flowschemas/storm")
            self.call("DELETE", f"{base}/prioritylevelconfigurations/storm")

    @contextmanager
    def _unfinished_request(self) -> Iterator[None]:
        """Held open until the end of the block. One that is answered was refused itself: somebody else was the one."""
        end_at = time.monotonic() + 60
        while time.monotonic() < end_at:
            with self._request_without_body() as line:
                is_refused = self.ask("GET", "/api/v1/namespaces/default", token=STORM_TOKEN)[0] == 429
                if is_refused and not _is_answered(line):
                    yield
                    return
        raise RuntimeError("there is no storm")

    @contextmanager
    def _request_without_body(self) -> Iterator[ssl.SSLSocket]:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with (
            socket.create_connection(("127.0.0.1", self.port), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as line,
        ):
            line.sendall(
                b"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: localhost\r\n"
                b"Authorization: Bearer " + STORM_TOKEN.encode() + b"\r\nContent-Type: application/json\r\n"
                b"Content-Length: 1000\r\n\r\n"
            )
            yield line


def _is_answered(line: ssl.SSLSocket) -> bool:
    """Read, not asked whether it is readable: it is, by what TLS says of itself after its handshake."""
    line.settimeout(1)
    try:
        return bool(line.recv(1))
    except TimeoutError:
        return False


@contextmanager
def real_cluster(folder: Path, *, gpus: int = 0, nodes: int = 3) -> Iterator[Cluster]:
    assets = Path(os.environ["KUBEBUILDER_ASSETS"])
    etcd_port, peer_port, port, log_port = _free_ports(4)
    certificate(folder)
    (folder / "tokens.csv").write_text(
        f'{ADMIN_TOKEN},admin,1,"system:masters"\n{LIMITED_TOKEN},pilothouse,2\n{STORM_TOKEN},stormy,3\n',
        encoding="utf-8",
    )
    kubeconfig(folder, f"https://127.0.0.1:{port}", ADMIN_TOKEN)
    with ExitStack() as stack:

        def start(name: str, *arguments: str, program: str | None = None) -> subprocess.Popen[bytes]:
            log = stack.enter_context((folder / f"{name}.log").open("ab"))
            command = [program or str(assets / name), *arguments]
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
            stack.callback(_end, process)
            return process

        start(
            "etcd",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{etcd_port}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd_port}",
            f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}",
            "--unsafe-no-fsync=true",
        )

        def start_server() -> subprocess.Popen[bytes]:
            return start("kube-apiserver", *_server_arguments(folder, port, etcd_port))

        cluster = Cluster(folder, port, start_server(), start_server)
        _wait_for(cluster)
        own = (f"--kubeconfig={folder / 'kubeconfig'}", "--leader-elect=false", "--secure-port=0")
        start("kube-controller-manager", *own, f"--service-account-private-key-file={folder / 'tls.key'}")
        start("kube-scheduler", *own)
        start(
            "fake-kubelet",
            str(fake_kubelet()),
            *("--kubeconfig", str(folder / "kubeconfig"), "--nodes", str(nodes), "--gpus", str(gpus)),
            # after an outage a node is Unknown, and tainted, until it tells its whole status again
            *("--status-interval", "10"),
            *("--start-delay", "0.1", "--ready-delay", "0.2", "--backoff", "1", "--crash-after", "0.3"),
            *("--fail", "0000*=NeverReady", "--fail", "cccc*=CrashLoopBackOff", "--fail", "dddd*=ImagePullBackOff"),
            *("--log-port", str(log_port), "--tls-cert", str(folder / "tls.crt"), "--tls-key", str(folder / "tls.key")),
            program=sys.executable,
        )
        _install(cluster)
        _let_stormy_in(cluster)
        _wait_for_nodes(cluster, nodes)
        with _gateway(cluster):
            yield cluster


def _server_arguments(folder: Path, port: int, etcd_port: int) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={folder / 'tls.crt'}",
        f"--tls-private-key-file={folder / 'tls.key'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.127.128.0/20",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={folder / 'tls.key'}",
        f"--service-account-signing-key-file={folder / 'tls.key'}",
        "--endpoint-reconciler-type=none",
        "--kubelet-preferred-address-types=InternalIP",
        "--watch-cache=true",
    ]


def _install(cluster: Cluster) -> None:
    """The kinds that routes are made of."""
    for path in sorted((fake_kubelet().parent / "crds").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            cluster.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", document)
    end_at = time.monotonic() + START_SECONDS
    served = ("/apis/gateway.networking.k8s.io/v1/httproutes", "/apis/networking.istio.io/v1/virtualservices")
    for url in served:
        while time.monotonic() < end_at:
            try:
                cluster.call("GET", url)
                break
            except client.ApiException:
                time.sleep(0.5)


@contextmanager
def _gateway(cluster: Cluster) -> Iterator[None]:
    """Plays the gateway's controller: accepts every route's newest generation. A route annotated
    ``fake-gateway/refuse`` is refused with that text."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.3):
            try:
                for route in cluster.call("GET", "/apis/gateway.networking.k8s.io/v1/httproutes")["items"]:
                    _answer(cluster, route)
            except (client.ApiException, OSError, ValueError, AttributeError):
                continue
            except Exception as error:
                if type(error).__module__.startswith("urllib3"):
                    continue  # the server is away: a test has stopped it
                raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(40)


def _answer(cluster: Cluster, route: JSON) -> None:
    meta = route["metadata"]
    refused = (meta.get("annotations") or {}).get("fake-gateway/refuse", "")
    conditions = [
        {
            "type": kind,
            "status": "False" if refused else "True",
            "reason": kind,
            "message": refused,
            "observedGeneration": meta["generation"],
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind in ("Accepted", "ResolvedRefs")
    ]
    parents = [
        {"parentRef": parent, "controllerName": "example.com/fake", "conditions": conditions}
        for parent in route["spec"].get("parentRefs", ())
    ]
    if (route.get("status") or {}).get("parents") != parents:
        path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{meta['namespace']}/httproutes/{meta['name']}/status"
        cluster.call("PATCH", path, {"status": {"parents": parents}}, "application/merge-patch+json")


def _wait_for(cluster: Cluster) -> None:
    end_at = time.monotonic() + START_SECONDS
    while True:
        if cluster.server.poll() is not None:
            raise RuntimeError((cluster.folder / "kube-apiserver.log").read_text(errors="replace")[-3000:])
        try:
            cluster.call("GET", "/api/v1/namespaces/default")
            return
        except Exception:
            if time.monotonic() > end_at:
                raise
            time.sleep(0.3)


def _wait_for_nodes(cluster: Cluster, count: int) -> None:
    end_at = time.monotonic() + START_SECONDS
    while True:
        found = cluster.call("GET", "/api/v1/nodes")["items"]
        # a new node is tainted as not ready until the controller has seen that it is: it takes no pod before
        free = [item for item in found if not item["spec"].get("taints")]
        conditions = [one for item in free for one in item["status"].get("conditions") or ()]
        if sum(one["type"] == "Ready" and one["status"] == "True" for one in conditions) == count:
            return
        if time.monotonic() > end_at:
            raise RuntimeError(f"{len(found)} of {count} nodes, not all ready")
        time.sleep(0.3)


def _kid(folder: Path) -> str:
    """The id under which the server knows the key that signs service accounts' tokens: the hash of its public half."""
    certificate = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = certificate.public_key().public_bytes(serialization.Encoding.DER, form)
    return base64.urlsafe_b64encode(hashlib.sha256(public).digest()).decode().rstrip("=")


def _let_stormy_in(cluster: Cluster) -> None:
    binding = {
        "metadata": {"name": "stormy"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "User", "name": "stormy", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    cluster.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
