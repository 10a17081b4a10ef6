"""A real Kubernetes control plane for tests: etcd, API server, controllers, scheduler, and nodes that only pretend.

``KUBEBUILDER_ASSETS`` names the folder with etcd, kube-apiserver, kube-controller-manager and kube-scheduler (the
convention of envtest); ``PILOTHOUSE_FAKE_KUBELET`` the program that plays the nodes, with the folder ``crds`` beside
it, where it is not at ``shared/kubernetes`` beside the checkout. Everything listens on loopback, on ports of its own.
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from kubernetes import client

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
ROOT = Path(__file__).resolve().parents[3]
ADMIN_TOKEN, LIMITED_TOKEN = "admin-token", "limited-token"
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
class Cluster:
    """Where it is, and who may do what: ``ADMIN_TOKEN`` everything, ``LIMITED_TOKEN`` what a test grants."""

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

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> JSON:
        """One request as the administrator. Raises ApiException."""
        api = client.ApiClient(self.configuration())
        try:
            answer = api.call_api(
                path, method, {}, [], {"Accept": "application/json", "Content-Type": kind}, body=body,
                auth_settings=["BearerToken"], _preload_content=False, _return_http_data_only=True, _request_timeout=30,
            )  # fmt: skip
            found: JSON = json.loads(answer.data)
            return found
        finally:
            api.rest_client.pool_manager.clear()

    def namespace(self, name: str) -> str:
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def stop_server(self) -> None:
        self.server.kill()  # asked nicely it would wait for its watchers to leave
        self.server.wait(30)

    def restart_server(self) -> None:
        self.server = self.start_server()
        _wait_for(self)


@contextmanager
def real_cluster(folder: Path, *, gpus: int = 0, nodes: int = 3) -> Iterator[Cluster]:
    assets = Path(os.environ["KUBEBUILDER_ASSETS"])
    etcd_port, peer_port, port, log_port = _free_ports(4)
    _certificate(folder)
    (folder / "tokens.csv").write_text(
        f'{ADMIN_TOKEN},admin,1,"system:masters"\n{LIMITED_TOKEN},pilothouse,2\n', encoding="utf-8"
    )
    _kubeconfig(folder, port)
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
            *("--start-delay", "0.1", "--ready-delay", "0.2", "--backoff", "1", "--crash-after", "0.3"),
            *("--fail", "0000*=NeverReady", "--fail", "cccc*=CrashLoopBackOff", "--fail", "dddd*=ImagePullBackOff"),
            *("--log-port", str(log_port), "--tls-cert", str(folder / "tls.crt"), "--tls-key", str(folder / "tls.key")),
            program=sys.executable,
        )
        _install(cluster)
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
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'tls.key'}",
        f"--service-account-signing-key-file={folder / 'tls.key'}",
        "--endpoint-reconciler-type=none",
        "--kubelet-preferred-address-types=InternalIP",
        "--watch-cache=true",
    ]


def _certificate(folder: Path) -> None:
    """One key and one self-signed certificate for 127.0.0.1: server, trust anchor, and signer of service accounts."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pilothouse-test")])
    at = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - dt.timedelta(hours=1))
        .not_valid_after(at + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.TraditionalOpenSSL
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (folder / "tls.key").write_bytes(secret)
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _kubeconfig(folder: Path, port: int) -> None:
    authority = base64.b64encode((folder / "tls.crt").read_bytes()).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "clusters": [
            {
                "name": "test",
                "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": authority},
            }
        ],
        "users": [{"name": "admin", "user": {"token": ADMIN_TOKEN}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(document), encoding="utf-8")


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
