//! Which failures may pass by themselves and which need somebody to change something.

use crate::bus::BusError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Whether no retry can help.
pub fn lasting(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::InvalidTopic
            | Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidRecord
            | Code::PolicyViolation
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::InvalidTransactionTimeout
            | Code::InvalidSessionTimeout
            | Code::InvalidGroupId
            | Code::InconsistentGroupProtocol
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::InvalidReplicationFactor
            | Code::InvalidPartitions
            | Code::InvalidConfig
    )
}

/// The failure of `what`.
pub fn of(what: &str, error: &KafkaError) -> BusError {
    match error.rdkafka_error_code() {
        Some(code) => of_code(what, code),
        None => BusError::Unavailable(format!("{what}: {error}")),
    }
}

/// The failure of `what`.
pub fn of_code(what: &str, code: RDKafkaErrorCode) -> BusError {
    if lasting(code) {
        BusError::Refused(format!("{what}: {code}"))
    } else {
        BusError::Unavailable(format!("{what}: {code}"))
    }
}
