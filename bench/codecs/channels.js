// A vendor's usual codec: records of channel, type and value, one after another.
var LABEL = "@LABEL@";

function int16(bytes, at) {
  var value = (bytes[at + 1] << 8) | bytes[at];
  return value > 0x7fff ? value - 0x10000 : value;
}

function decodeUplink(input) {
  var bytes = input.bytes;
  var data = { label: LABEL, port: input.fPort };
  for (var i = 0; i + 2 < bytes.length; ) {
    var channel = bytes[i++];
    var type = bytes[i++];
    if (channel === 0x01 && type === 0x75) {
      data.battery = bytes[i];
      i += 1;
    } else if (type === 0x67) {
      data["temperature_" + channel] = int16(bytes, i) / 10;
      i += 2;
    } else if (type === 0x68) {
      data["humidity_" + channel] = bytes[i] / 2;
      i += 1;
    } else if (type === 0x73) {
      data["pressure_" + channel] = (((bytes[i + 1] << 8) | bytes[i]) >>> 0) / 10;
      i += 2;
    } else if (type === 0x82) {
      data["distance_" + channel] = ((bytes[i + 1] << 8) | bytes[i]) >>> 0;
      i += 2;
    } else {
      return { errors: ["unknown type " + type + " on channel " + channel] };
    }
  }
  return { data: data };
}
