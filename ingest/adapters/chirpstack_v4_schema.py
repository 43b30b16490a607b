"""ChirpStack v4's protobuf events, declared as far as Quantrac reads them.

Names, numbers and types are those of api/proto/{integration/integration,gw/gw,common/common}.proto of
ChirpStack. Fields not named here (such as the decoded `object`) are skipped by the reader, as are those a
later version adds. Enumerations are told by their names, as ChirpStack's JSON does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "quantrac.chirpstack"
_ENUMS = """
LogLevel: INFO WARNING ERROR
LogCode: UNKNOWN DOWNLINK_PAYLOAD_SIZE UPLINK_CODEC DOWNLINK_CODEC OTAA UPLINK_F_CNT_RESET UPLINK_MIC
    UPLINK_F_CNT_RETRANSMISSION DOWNLINK_GATEWAY RELAY_NEW_END_DEVICE F_CNT_DOWN EXPIRED
CodeRate: CR_UNDEFINED CR_4_5 CR_4_6 CR_4_7 CR_4_8 CR_3_8 CR_2_6 CR_1_4 CR_1_6 CR_5_6
    CR_LI_4_5 CR_LI_4_6 CR_LI_4_8
LocationSource: UNKNOWN GPS CONFIG
    GEO_RESOLVER_TDOA GEO_RESOLVER_RSSI GEO_RESOLVER_GNSS GEO_RESOLVER_WIFI
"""
_MESSAGES = """
Timestamp: 1 seconds int64, 2 nanos int32
Duration: 1 seconds int64, 2 nanos int32
Entry: 1 key string, 2 value string
DeviceInfo: 1 tenant_id string, 2 tenant_name string, 3 application_id string, 4 application_name string,
    6 device_profile_name string, 7 device_name string, 8 dev_eui string, 9 tags Entry*
Location: 1 latitude double, 2 longitude double, 3 altitude double, 4 source LocationSource, 5 accuracy float
Lora: 1 bandwidth uint32, 2 spreading_factor uint32, 5 code_rate CodeRate, 4 polarization_inversion bool
Fsk: 1 frequency_deviation uint32, 2 datarate uint32
LrFhss: 1 operating_channel_width uint32, 4 code_rate CodeRate, 3 grid_steps uint32
Modulation: 3 lora Lora, 4 fsk Fsk, 5 lr_fhss LrFhss
UplinkRxInfo: 1 gateway_id string, 3 gw_time Timestamp, 17 ns_time Timestamp, 6 rssi int32, 7 snr float,
    12 location Location
UplinkTxInfo: 1 frequency uint32, 2 modulation Modulation
RelayRxInfo: 1 dev_eui string, 2 frequency uint32, 3 dr uint32, 4 snr int32, 5 rssi int32,
    6 wor_channel uint32
KeyEnvelope: 1 kek_label string, 2 aes_key bytes
JoinServerContext: 1 session_key_id string, 2 app_s_key KeyEnvelope
Immediately:
Delay: 1 delay Duration
GpsEpoch: 1 time_since_gps_epoch Duration
Timing: 1 immediately Immediately, 2 delay Delay, 3 gps_epoch GpsEpoch
DownlinkTxInfo: 1 frequency uint32, 2 power int32, 3 modulation Modulation, 4 board uint32,
    5 antenna uint32, 6 timing Timing, 7 context bytes
up: 1 deduplication_id string, 2 time Timestamp, 3 device_info DeviceInfo, 4 dev_addr string, 5 adr bool,
    7 f_cnt uint32, 8 f_port uint32, 9 confirmed bool, 10 data bytes, 12 rx_info UplinkRxInfo*,
    13 tx_info UplinkTxInfo, 15 join_server_context JoinServerContext
join: 1 deduplication_id string, 2 time Timestamp, 3 device_info DeviceInfo, 4 dev_addr string,
    5 relay_rx_info RelayRxInfo, 6 join_server_context JoinServerContext, 7 region_config_id string
ack: 1 deduplication_id string, 2 time Timestamp, 3 device_info DeviceInfo, 4 queue_item_id string,
    5 acknowledged bool, 6 f_cnt_down uint32
txack: 1 downlink_id uint32, 2 time Timestamp, 3 device_info DeviceInfo, 4 queue_item_id string,
    5 f_cnt_down uint32, 6 gateway_id string, 7 tx_info DownlinkTxInfo
log: 1 time Timestamp, 2 device_info DeviceInfo, 3 level LogLevel, 4 code LogCode, 5 description string,
    6 context Entry*
status: 1 deduplication_id string, 2 time Timestamp, 3 device_info DeviceInfo, 5 margin int32,
    6 external_power_source bool, 7 battery_level_unavailable bool, 8 battery_level float
location: 1 deduplication_id string, 2 time Timestamp, 3 device_info DeviceInfo, 4 location Location
"""


def event_classes() -> dict[str, type[Message]]:
    """The message class of each event, by the event's name in the topic."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file(_read(_ENUMS), _read(_MESSAGES)))
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _read(_MESSAGES)
        if name.islower()
    }


def _read(text: str) -> dict[str, str]:
    """What stands behind each name and its colon."""
    return dict(re.findall(r"^(\w+):(.*(?:\n .*)*)", text, re.MULTILINE))


def _file(enums: Mapping[str, str], messages: Mapping[str, str]) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="chirpstack.proto", package=_PACKAGE, syntax="proto3")
    for name, values in enums.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values.split()):
            enum.value.add(name=f"{name}__{value}", number=number)  # names are unique in a file
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for number, field, kind, many in re.findall(r"(\d+) (\w+) (\w+)(\*?)", fields):
            declared = message.field.add(
                name=field,
                number=int(number),
                label=_Field.LABEL_REPEATED if many else _Field.LABEL_OPTIONAL,
            )
            if kind in messages or kind in enums:
                declared.type_name = f".{_PACKAGE}.{kind}"
                declared.type = _Field.TYPE_MESSAGE if kind in messages else _Field.TYPE_ENUM
            else:
                declared.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
    return file
