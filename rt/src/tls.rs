//! Node certificates and TLS 1.3 with mutual authentication.
//!
//! A cluster has one authority; each node a key and a certificate signed by it, with the node's name as subject
//! common name. Both sides of a connection must show one. The name [`ANY_NODE`] is in every certificate, so that a
//! caller who knows only an address can still verify that a node of this cluster answers.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A DNS name in every node certificate of every cluster.
pub const ANY_NODE: &str = "node.xtfs.internal";

/// Why a certificate or key could not be made or read.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}")]
pub struct TlsError {
    /// What was attempted.
    pub what: String,
    /// What the library said.
    pub cause: String,
}

fn failed<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> TlsError + '_ {
    move |cause| TlsError { what: what.to_owned(), cause: cause.to_string() }
}

/// A cluster's authority: certificate and key, PEM.
#[derive(Clone)]
pub struct Authority {
    /// The certificate that every node trusts.
    pub certificate_pem: String,
    /// Its key; kept by the admin host only.
    pub key_pem: String,
}

/// What a node shows and trusts, PEM.
#[derive(Clone)]
pub struct NodeCertificate {
    /// The authority's certificate.
    pub authority_pem: String,
    /// The node's certificate.
    pub certificate_pem: String,
    /// The node's key.
    pub key_pem: String,
}

impl Authority {
    /// A new authority for the named cluster.
    pub fn create(cluster: &str) -> Result<Self, TlsError> {
        let key = KeyPair::generate().map_err(failed("generate the authority's key"))?;
        let certificate =
            Self::params(cluster).self_signed(&key).map_err(failed("sign the authority's certificate"))?;
        Ok(Self { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    fn params(cluster: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, format!("xtfs cluster {cluster}"));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// A key and certificate for a node. `names` are further DNS names or IP addresses it answers to.
    pub fn issue(&self, node: &str, names: &[String]) -> Result<NodeCertificate, TlsError> {
        let authority_key = KeyPair::from_pem(&self.key_pem).map_err(failed("read the authority's key"))?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, authority_key)
            .map_err(failed("read the authority's certificate"))?;
        let key = KeyPair::generate().map_err(failed("generate the node's key"))?;
        let mut all: Vec<String> = vec![ANY_NODE.to_owned()];
        all.extend(names.iter().cloned());
        let mut params = CertificateParams::new(all).map_err(failed("use the node's names"))?;
        params.distinguished_name.push(DnType::CommonName, node);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).map_err(failed("sign the node's certificate"))?;
        Ok(NodeCertificate {
            authority_pem: self.certificate_pem.clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

/// A node's certificate, ready for connections.
pub struct TlsIdentity {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
}

impl TlsIdentity {
    /// Reads PEM texts.
    pub fn new(node: &NodeCertificate) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = &[&rustls::version::TLS13];
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(node.authority_pem.as_bytes())
            .map_err(failed("read the authority's certificate"))?;
        roots.add(authority).map_err(failed("trust the authority's certificate"))?;
        let roots = Arc::new(roots);
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(node.certificate_pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(failed("read the node's certificate"))?;
        let key =
            || PrivateKeyDer::from_pem_slice(node.key_pem.as_bytes()).map_err(failed("read the node's key"));
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(failed("use TLS 1.3"))?
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain.clone(), key()?)
            .map_err(failed("use the node's certificate"))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(failed("verify peers' certificates"))?;
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(failed("use TLS 1.3"))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key()?)
            .map_err(failed("use the node's certificate"))?;
        Ok(Arc::new(Self { client: Arc::new(client), server: Arc::new(server) }))
    }

    pub(crate) fn server_name() -> ServerName<'static> {
        ServerName::try_from(ANY_NODE).expect("a valid DNS name")
    }
}

/// The common name of a verified peer's certificate.
pub(crate) fn subject(certificates: Option<&[CertificateDer<'_>]>) -> Option<String> {
    use x509_parser::prelude::FromDer;
    let first = certificates?.first()?;
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(first).ok()?;
    parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned)
}
