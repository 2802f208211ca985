//! Groups in configurations: our own key `groups`.

use serde_json::Value;

use super::told_apart;
use crate::config::{Config, ConfigError, Envelope, Fields, Registry};
use crate::group::{Group, Select};
use crate::hyper::Hyper;
use crate::real::Scalar;
use crate::rule::UpdateRule;

pub(super) const KEY: &str = "groups";

/// The name by which errors call a group.
const CLASS: &str = "group";

/// Reads the list of groups.
pub(super) fn read<T: Scalar>(reader: &mut Fields<'_>, registry: &Registry<T>) -> Result<Vec<Group<T>>, ConfigError> {
    let Some(value) = reader.take(KEY).filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
    let wrong = || ConfigError::wrong_type(reader.class_name(), KEY, &value, "a list of objects");
    let groups = value.as_array().ok_or_else(wrong)?.iter().map(|group| read_group(group, registry));
    let mut groups = groups.collect::<Result<Vec<_>, _>>()?;
    groups.sort_by_key(|group| !matches!(group.select, Select::Rest));
    Ok(groups)
}

fn read_group<T: Scalar>(value: &Value, registry: &Registry<T>) -> Result<Group<T>, ConfigError> {
    let Value::Object(config) = value else {
        return Err(ConfigError::wrong_type(CLASS, KEY, value, "an object"));
    };
    let mut fields = Fields::new(CLASS, config.clone(), registry.schedules());
    let (pattern, name) = (text(&mut fields, "pattern")?, text(&mut fields, "name")?);
    if pattern.is_none() && name.as_deref() == Some(Group::<T>::DEFAULT) {
        let group = Group { frozen: Some(fields.required("frozen")?), ..Group::rest() };
        fields.finish()?;
        return Ok(group);
    }
    let mut group = Group::matching(pattern.ok_or_else(|| ConfigError::missing_key(CLASS, "pattern"))?);
    if let Some(name) = name {
        group = group.named(name);
    }
    group.learning_rate = fields.nullable("learning_rate")?;
    group.learning_rate_scale = fields.nullable("learning_rate_scale")?;
    group.weight_decay = fields.nullable("weight_decay")?;
    group.clip.norm = fields.nullable("clipnorm")?;
    group.clip.value = fields.nullable("clipvalue")?;
    group.clip.global_norm = fields.nullable("global_clipnorm")?;
    group.average = fields.nullable("average")?;
    group.frozen = fields.nullable("frozen")?;
    group.rule = match fields.take("rule").filter(|rule| !rule.is_null()) {
        None => None,
        Some(rule) => {
            let (class_name, config, _) = Envelope::open(&rule)?;
            let mut reader = registry.fields(&class_name, told_apart(config));
            let rule = registry.rule(&mut reader)?;
            reader.finish()?;
            Some(rule.into())
        }
    };
    fields.finish()?;
    Ok(group)
}

fn text(fields: &mut Fields<'_>, key: &str) -> Result<Option<String>, ConfigError> {
    match fields.take(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(ConfigError::wrong_type(CLASS, key, &other, "a text")),
    }
}

/// Writes the list of groups; `None` if it is empty. The default group is in it, first, if it is frozen.
pub(super) fn write<T: Scalar>(groups: &[Group<T>]) -> Result<Option<Value>, ConfigError> {
    if groups.is_empty() {
        return Ok(None);
    }
    groups.iter().map(write_group).collect::<Result<Vec<_>, _>>().map(|groups| Some(groups.into()))
}

fn write_group<T: Scalar>(group: &Group<T>) -> Result<Value, ConfigError> {
    let pattern = match &group.select {
        Select::Rest => None,
        Select::Pattern(pattern, _) => Some(pattern.as_str().into()),
        Select::Code(_) => {
            let what = format!("the choice of group {:?}", group.name);
            return Err(ConfigError::NotSerializable { what, reason: "it is code: use Group::matching" });
        }
    };
    let mut fields = Config::new();
    let mut put = |key: &str, value: Option<Value>| fields.extend(value.map(|value| (key.to_owned(), value)));
    let rate = |rate: &Option<Hyper>| rate.as_ref().map(Hyper::to_json).transpose();
    put("name", Some((&*group.name).into()));
    put("pattern", pattern);
    put("learning_rate", rate(&group.learning_rate)?);
    put("learning_rate_scale", group.learning_rate_scale.map(Value::from));
    put("weight_decay", rate(&group.weight_decay)?);
    for (key, limit) in group.clip.named() {
        put(key, limit.map(Value::from));
    }
    put("average", group.average.map(Value::from));
    put("frozen", group.frozen.map(Value::from));
    put("rule", group.rule.as_deref().map(write_rule).transpose()?);
    Ok(Value::Object(fields))
}

fn write_rule<T: Scalar>(rule: &dyn UpdateRule<T>) -> Result<Value, ConfigError> {
    Ok(Envelope::default().wrap(rule.class_name(), rule.config()?))
}
