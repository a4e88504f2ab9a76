use super::*;
use table::SIZE_MAX;

type List<'a> = &'a [(&'a str, &'a str)];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Violation> {
    let mut list = Vec::new();
    decoder.decode(block, |name, value| list.push((text(name), text(value)))).map(|()| list)
}

/// The dynamic table, latest entry first.
fn table(decoder: &Decoder) -> Vec<(String, String)> {
    let entries = (62..).map_while(|index| decoder.table.get(index).ok());
    entries.map(|(name, value)| (text(name), text(value))).collect()
}

fn owned(list: List) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn refused(block: &[u8]) -> Code {
    decode(&mut Decoder::new(), block).unwrap_err().code
}

/// A literal of name `a` and a value of at least 127 bytes. `kind`: 0x40 with indexing, 0 without.
fn long(kind: u8, huffman: bool, value: &[u8]) -> Vec<u8> {
    let rest = value.len() - 127;
    let first = 0x7f | (u8::from(huffman) << 7);
    let length = [first, (rest % 128) as u8 | 0x80, (rest / 128 % 128) as u8 | 0x80, (rest >> 14) as u8];
    [&[kind, 1, b'a'], &length[..], value].concat()
}

/// One block after another: in hexadecimal, its fields, and the dynamic table behind it.
fn check(decoder: &mut Decoder, blocks: &[(&str, List, List)]) {
    for (hex, list, left) in blocks {
        assert_eq!(decode(decoder, &bytes(hex)).unwrap(), owned(list), "{hex}");
        assert_eq!(table(decoder), owned(left), "behind {hex}");
    }
}

#[test]
fn integers_of_rfc_7541_c_1() {
    for (code, prefix, value) in [("0a", 5, 10), ("1f9a0a", 5, 1337), ("2a", 8, 42), ("ff80808000", 7, 127)] {
        assert_eq!(Reader(&bytes(code)).integer(prefix), Ok(value));
    }
}

#[test]
fn fields_of_rfc_7541_c_2() {
    let custom = ("custom-key", "custom-header");
    let custom_literal = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    check(&mut Decoder::new(), &[(custom_literal, &[custom], &[custom])]);
    check(&mut Decoder::new(), &[("040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], &[])]);
    check(&mut Decoder::new(), &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")], &[])]);
    check(&mut Decoder::new(), &[("82", &[(":method", "GET")], &[])]);
}

const GET: (&str, &str) = (":method", "GET");
const HTTP: (&str, &str) = (":scheme", "http");
const ROOT: (&str, &str) = (":path", "/");
const EXAMPLE: (&str, &str) = (":authority", "www.example.com");
const NO_CACHE: (&str, &str) = ("cache-control", "no-cache");
const CUSTOM: (&str, &str) = ("custom-key", "custom-value");

fn check_requests(blocks: [&str; 3]) {
    let lists: [List; 3] = [
        &[GET, HTTP, ROOT, EXAMPLE],
        &[GET, HTTP, ROOT, EXAMPLE, NO_CACHE],
        &[GET, (":scheme", "https"), (":path", "/index.html"), EXAMPLE, CUSTOM],
    ];
    let tables: [List; 3] = [&[EXAMPLE], &[NO_CACHE, EXAMPLE], &[CUSTOM, NO_CACHE, EXAMPLE]];
    check(&mut Decoder::new(), &[0, 1, 2].map(|i| (blocks[i], lists[i], tables[i])));
}

#[test]
fn requests_of_rfc_7541_c_3() {
    check_requests([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
}

#[test]
fn requests_of_rfc_7541_c_4() {
    check_requests([
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ]);
}

const PRIVATE: (&str, &str) = ("cache-control", "private");
const DATE: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
const DATE_2: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
const LOCATION: (&str, &str) = ("location", "https://www.example.com");
const FOUND: (&str, &str) = (":status", "302");
const REDIRECT: (&str, &str) = (":status", "307");
const GZIP: (&str, &str) = ("content-encoding", "gzip");
const COOKIE: (&str, &str) = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");

/// With a table of 256 bytes.
fn check_responses(blocks: [&str; 3]) {
    let mut decoder = Decoder::new();
    decode(&mut decoder, &bytes("3fe101")).unwrap();
    let lists: [List; 3] = [
        &[FOUND, PRIVATE, DATE, LOCATION],
        &[REDIRECT, PRIVATE, DATE, LOCATION],
        &[(":status", "200"), PRIVATE, DATE_2, LOCATION, GZIP, COOKIE],
    ];
    let tables: [List; 3] =
        [&[LOCATION, DATE, PRIVATE, FOUND], &[REDIRECT, LOCATION, DATE, PRIVATE], &[COOKIE, GZIP, DATE_2]];
    check(&mut decoder, &[0, 1, 2].map(|i| (blocks[i], lists[i], tables[i])));
    assert_eq!(decoder.table.size(), 215);
}

#[test]
fn responses_of_rfc_7541_c_5() {
    check_responses([
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e \
         1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d \
         4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 \
         7369 6f6e 3d31",
    ]);
}

#[test]
fn responses_of_rfc_7541_c_6() {
    check_responses([
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b \
         97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf \
         cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ]);
}

/// Each symbol between two others, in the code that is written down in appendix B for some of each length.
#[test]
fn the_huffman_code_of_appendix_b() {
    for (symbol, code, length) in [
        (b'0', 0x0_u32, 5_u32),
        (b't', 0x9, 5),
        (b' ', 0x14, 6),
        (b'u', 0x2d, 6),
        (b':', 0x5c, 7),
        (b'z', 0x7b, 7),
        (b'&', 0xf8, 8),
        (b'Z', 0xfd, 8),
        (b'!', 0x3f8, 10),
        (b'?', 0x3fc, 10),
        (b'|', 0x7fc, 11),
        (b'>', 0xffb, 12),
        (0, 0x1ff8, 13),
        (b'~', 0x1ffd, 13),
        (b'}', 0x3ffd, 14),
        (b'{', 0x7ffe, 15),
        (b'\\', 0x7fff0, 19),
        (208, 0x7fff2, 19),
        (128, 0xfffe6, 20),
        (226, 0xfffed, 20),
        (153, 0x1fffdc, 21),
        (129, 0x3fffd2, 22),
        (1, 0x7fffd8, 23),
        (9, 0xffffea, 24),
        (199, 0x1ffffec, 25),
        (192, 0x3ffffe0, 26),
        (203, 0x7ffffde, 27),
        (2, 0xfffffe2, 28),
        (249, 0xffffffe, 28),
        (b'\n', 0x3ffffffc, 30),
        (22, 0x3ffffffe, 30),
    ] {
        // '0', the symbol, '0', and ones to the end of a byte.
        let total = 5 + length + 5;
        let whole = (u64::from(code) << 5) << (64 - total) | u64::MAX >> total;
        let coded = &whole.to_be_bytes()[..total.div_ceil(8) as usize];
        let mut out = Vec::new();
        huffman::decode(coded, 3, &mut out).unwrap();
        assert_eq!(out, [b'0', symbol, b'0'], "{symbol}");
    }
}

#[test]
fn a_huffman_string_ends_with_less_than_a_byte_of_ones() {
    let decoded = |code: &[u8]| {
        let mut out = Vec::new();
        huffman::decode(code, 100, &mut out).map(|()| out).map_err(|violation| violation.code)
    };
    for (code, expected) in [
        (&[][..], Ok("")),
        (&[0x1f], Ok("a")),
        (&[0x18], Err(Code::COMPRESSION_ERROR)),
        (&[0x1e], Err(Code::COMPRESSION_ERROR)),
        (&[0xff], Err(Code::COMPRESSION_ERROR)),
        (&[0x1f, 0xff], Err(Code::COMPRESSION_ERROR)),
        (&[0xf8], Ok("&")),
        (&[0xf8, 0xff], Err(Code::COMPRESSION_ERROR)),
        (&[0xff, 0xff, 0xff, 0xff], Err(Code::COMPRESSION_ERROR)),
        (&[0xff, 0xff, 0xff, 0xf3], Ok("\n")),
        (&[0xff, 0xff, 0xff, 0xfc, 0x1f], Err(Code::COMPRESSION_ERROR)),
    ] {
        assert_eq!(decoded(code), expected.map(|text| text.as_bytes().to_vec()), "{code:x?}");
    }
}

#[test]
fn what_is_no_header_block() {
    for (what, block) in [
        ("a field of index 0", &[0x80][..]),
        ("a name of index 0 that does not follow", &[0x40]),
        ("an index beyond the table", &[0xbe]),
        ("a name's index beyond the table", &[0x7f, 0x00, 1, b'a']),
        ("an index that is cut off", &[0xff]),
        ("an index that is cut off later", &[0xff, 0x80]),
        ("an index of too many bytes", &[0xff, 0x80, 0x80, 0x80, 0x80, 0x00]),
        ("a small index of too many bytes", &[0x0f, 0x80, 0x80, 0x80, 0x80, 0x00, 1, b'a']),
        ("an index of more than 32 bits", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("a name longer than its block", &[0x00, 2, b'a']),
        ("a value longer than its block", &[0x00, 1, b'a', 2, b'b']),
        ("a value that is missing", &[0x00, 1, b'a']),
        ("a value of very many bytes", &[0x00, 1, b'a', 0x7f, 0xff, 0xff, 0xff, 0x7f]),
        ("Huffman padding of zeros", &[0x00, 1, b'a', 0x81, 0x18]),
        ("a table of 4,097 bytes", &[0x3f, 0xe2, 0x1f]),
        ("a table of 256 MB", &[0x3f, 0xe1, 0xff, 0xff, 0x7f]),
        ("three changes of the table's size", &[0x20, 0x20, 0x20]),
        ("a change of the table's size behind a field", &[0x82, 0x20]),
    ] {
        assert_eq!(refused(block), Code::COMPRESSION_ERROR, "{what}");
    }
}

#[test]
fn the_table_is_as_large_as_the_peer_wants_but_not_larger() {
    let mut decoder = Decoder::new();
    let entry = |size: usize| long(0x40, false, &vec![b'x'; size - OVERHEAD - 1]);
    let mut put = |block: &[u8]| {
        decode(&mut decoder, block).unwrap();
        (table(&decoder).len(), decoder.table.size())
    };
    assert_eq!(put(&entry(1000)), (1, 1000));
    assert_eq!(put(&entry(1000).repeat(3)), (4, 4000));
    assert_eq!(put(&entry(1096)), (4, SIZE_MAX));
    assert_eq!(put(&[0x3f, 0xe1, 0x1f]), (4, SIZE_MAX)); // to 4,096
    assert_eq!(put(&[0x3f, 0xe1, 0x0f]), (1, 1096)); // to 2,048
    assert_eq!(put(&entry(2049)), (0, 0));
    assert_eq!(put(&[&[0x20, 0x3f, 0xe1, 0x1f][..], &entry(SIZE_MAX)].concat()), (1, SIZE_MAX));
}

/// An entry may be named by one that pushes it out (RFC 7541 section 4.4), and one that is too large leaves the table empty.
#[test]
fn an_entry_that_pushes_out_its_own_name() {
    let mut decoder = Decoder::new();
    decode(&mut decoder, &[0x3f, 0x0b]).unwrap(); // 42 bytes
    check(
        &mut decoder,
        &[
            ("4003 6e61 6d04 7661 6c31", &[("nam", "val1")], &[("nam", "val1")]),
            ("7e04 7661 6c32", &[("nam", "val2")], &[("nam", "val2")]),
            ("7e08 7661 6c75 652d 3132", &[("nam", "value-12")], &[]),
        ],
    );
}

/// Texts of entries that are gone do not stay for long, however many there were; and those that stay are where they belong.
#[test]
fn the_tables_memory_is_bounded() {
    let mut decoder = Decoder::new();
    for round in 0..10_000_u32 {
        let value = format!("{round:0>width$}", width = 1 + (round as usize * 7) % 120);
        let block = [&[0x40, 1, b'a', value.len() as u8], value.as_bytes()].concat();
        decode(&mut decoder, &block).unwrap();
        assert_eq!(table(&decoder)[0], ("a".to_owned(), value));
        assert!(decoder.table.size() <= SIZE_MAX && decoder.table.memory() <= 3 * SIZE_MAX, "{round}");
    }
    let sizes: usize = table(&decoder).iter().map(|(name, value)| name.len() + value.len() + OVERHEAD).sum();
    assert_eq!(sizes, decoder.table.size());
    decode(&mut decoder, &[0x20]).unwrap();
    assert_eq!((table(&decoder).len(), decoder.table.memory()), (0, 0));
}

/// What a block can cost: fields told of, and bytes of text made. It stops where the list is too long, whatever follows.
#[test]
fn the_work_for_a_block_is_bounded() {
    let large = long(0x40, false, &[b'x'; 4_000]);
    let half = long(0, false, &[b'x'; LIST_MAX * 2 / 3]).split_off(3);
    for (what, block) in [
        ("a name and a value that fit without each other", [&[0], &half[..], &half].concat()),
        ("fields of the static table", vec![0x90; 293_000]),
        ("empty fields", [0x00, 0x00, 0x00].repeat(100_000)),
        ("Huffman strings of one character", [0x0f, 0x04, 0x81, 0x1f].repeat(73_000)),
        ("a Huffman string of the shortest codes", long(0, true, &[0; 293_000])),
        ("a plain string", long(0, false, &[b'x'; 293_000])),
        ("a large entry of the dynamic table", [large, vec![0xbe; 293_000]].concat()),
        ("names of the dynamic table", [vec![0x40, 1, b'a', 1, b'b'], [0x0f, 0x2f, 0x00].repeat(90_000)].concat()),
        ("entries for the dynamic table", [0x40, 1, b'a', 1, b'b'].repeat(60_000)),
    ] {
        let (mut decoder, mut fields, mut told) = (Decoder::new(), 0, 0);
        let result = decoder.decode(&block, |name, value| {
            fields += 1;
            told += name.len() + value.len();
        });
        assert_eq!(result.unwrap_err().code, Code::ENHANCE_YOUR_CALM, "{what}");
        assert!(fields * OVERHEAD + told <= LIST_MAX, "{what}: {fields} fields of {told} bytes");
        assert!(decoder.text.capacity() <= TEXT_KEPT && decoder.table.memory() <= 3 * SIZE_MAX, "{what}");
    }
}

#[test]
fn a_list_that_just_fits() {
    let field = |value: usize| long(0, false, &vec![b'x'; value]);
    let most = LIST_MAX - OVERHEAD - 1;
    assert!(decode(&mut Decoder::new(), &field(most)).is_ok());
    assert_eq!(refused(&field(most + 1)), Code::ENHANCE_YOUR_CALM);
    assert_eq!(decode(&mut Decoder::new(), &[0x90].repeat(LIST_MAX / 60)).unwrap().len(), LIST_MAX / 60);
    assert_eq!(refused(&[0x90].repeat(LIST_MAX / 60 + 1)), Code::ENHANCE_YOUR_CALM);
}
