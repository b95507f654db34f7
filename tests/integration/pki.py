"""Certificates for tests, good and bad, made with the openssl program.

    pki = Pki(directory)
    pki.authority("ca")                                    a CA
    pki.issue("server", "/CN=localhost", by="ca")          a key and a certificate
    pki.directory("tls", ca="ca", server="server")         a directory as credentials want it
"""

import pathlib
import subprocess

KINDS = {
    "server": "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
              "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
    "client": "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n",
    "any": "basicConstraints=critical,CA:FALSE\n",
    "unsigned": "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,keyEncipherment\n",
    "ca": "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n",
    "ca-that-may-not-sign": "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,cRLSign\n",
}


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True)


class Pki:
    def __init__(self, directory):
        self.root = pathlib.Path(directory)
        self.root.mkdir(exist_ok=True)

    def path(self, name):
        return self.root / name

    def key(self, name, password=None):
        protection = ["-aes-256-cbc", "-pass", f"pass:{password}"] if password else []
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", *protection,
                "-out", self.path(f"{name}.key"))

    def authority(self, name, subject=None, kind="ca", days=30):
        self.issue(name, subject or f"/CN={name}", kind=kind, days=days)
        (self.path(f"{name}.index")).write_text("")

    def issue(self, name, subject, by=None, kind="any", days=30, password=None):
        """@by None: signed with its own key. @days negative: it has expired."""
        self.key(name, password)
        given = ["-passin", f"pass:{password}"] if password else []
        openssl("req", "-new", "-key", self.path(f"{name}.key"), *given, "-subj", subject, "-utf8",
                "-out", self.path(f"{name}.csr"))
        self.path(f"{name}.ext").write_text(KINDS[kind])
        signer = (["-CA", self.path(f"{by}.pem"), "-CAkey", self.path(f"{by}.key"), "-CAcreateserial"] if by
                  else ["-signkey", self.path(f"{name}.key"), *given])
        openssl("x509", "-req", "-in", self.path(f"{name}.csr"), *signer, "-days", days,
                "-extfile", self.path(f"{name}.ext"), "-out", self.path(f"{name}.pem"))

    def revoke(self, by, *names, days=30):
        """A list of revoked certificates; its path."""
        config = self.path(f"{by}.cnf")
        config.write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.path(by + '.index')}\ndefault_md=sha256\n"
                          f"default_crl_days={days}\n")
        signer = ["-config", config, "-keyfile", self.path(f"{by}.key"), "-cert", self.path(f"{by}.pem")]
        for name in names:
            openssl("ca", *signer, "-revoke", self.path(f"{name}.pem"))
        openssl("ca", *signer, "-gencrl", "-out", self.path(f"{by}.crl"))
        return self.path(f"{by}.crl")

    def directory(self, name, ca=None, server=None, client=None, crl=None):
        """The files under the names that credentials want. @ca may be several."""
        directory = self.path(name)
        directory.mkdir()
        if ca:
            several = [ca] if isinstance(ca, str) else ca
            text = "".join(self.path(f"{one}.pem").read_text() for one in several)
            (directory / "ca-cert.pem").write_text(text)
        for side, own in (("server", server), ("client", client)):
            if own:
                (directory / f"{side}-cert.pem").write_text(self.path(f"{own}.pem").read_text())
                (directory / f"{side}-key.pem").touch(0o600)
                (directory / f"{side}-key.pem").write_text(self.path(f"{own}.key").read_text())
        if crl:
            (directory / "ca-crl.pem").write_text(crl.read_text())
        return directory
