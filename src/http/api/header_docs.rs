//! The descriptions of headers in the OpenAPI document.

use utoipa::openapi::{
    Required,
    header::{Header, HeaderBuilder},
    path::{Parameter, ParameterBuilder, ParameterIn},
    schema::{ObjectBuilder, Type},
};

use crate::domain::MAX_TEXT;

/// Describes an optional header of a request.
pub(super) fn header_parameter(name: &str, description: &str, example: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .max_length(Some(MAX_TEXT)),
        ))
        .example(Some(example.into()))
        .build()
}

/// Describes a header of an answer.
pub(super) fn response_header(description: &str, is_number: bool) -> Header {
    let kind = if is_number {
        Type::Integer
    } else {
        Type::String
    };
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(kind).build()))
        .description(Some(description))
        .build()
}
