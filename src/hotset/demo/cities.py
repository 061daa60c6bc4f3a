"""The names of the demo's models: cities, the busiest first. Pure data and one function."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

_NAMES: Final = """
tokyo paris london new-york istanbul mumbai sao-paulo mexico-city cairo lagos delhi shanghai madrid berlin rome seoul
bangkok jakarta lima bogota buenos-aires rio-de-janeiro los-angeles chicago toronto sydney melbourne singapore
hong-kong taipei osaka kyoto manila hanoi kuala-lumpur dubai tehran baghdad riyadh karachi lahore dhaka kolkata chennai
bangalore hyderabad beijing guangzhou shenzhen chengdu wuhan tianjin vienna prague budapest warsaw lisbon porto
barcelona valencia seville milan naples turin florence venice athens amsterdam brussels copenhagen stockholm oslo
helsinki dublin edinburgh glasgow manchester zurich geneva munich hamburg cologne frankfurt lyon marseille nice bordeaux
toulouse kyiv bucharest sofia belgrade zagreb ljubljana bratislava riga vilnius tallinn reykjavik nairobi accra dakar
casablanca tunis algiers addis-ababa cape-town johannesburg durban kinshasa luanda kampala dar-es-salaam harare lusaka
maputo abidjan khartoum tripoli rabat marrakesh alexandria beirut amman jerusalem tel-aviv haifa ankara izmir bursa
tbilisi yerevan baku tashkent samarkand almaty astana bishkek dushanbe ashgabat kabul islamabad kathmandu colombo
yangon phnom-penh vientiane saigon cebu davao bandung surabaya medan perth brisbane adelaide canberra auckland
wellington christchurch honolulu anchorage vancouver montreal ottawa calgary edmonton winnipeg quebec halifax seattle
portland san-francisco san-diego san-jose sacramento las-vegas phoenix denver dallas houston austin san-antonio
new-orleans memphis nashville atlanta miami orlando tampa charlotte washington baltimore philadelphia boston pittsburgh
cleveland detroit minneapolis milwaukee saint-louis kansas-city omaha havana kingston santo-domingo san-juan
port-au-prince guatemala-city san-salvador tegucigalpa managua panama-city caracas medellin cali quito guayaquil cusco
arequipa la-paz santa-cruz cochabamba asuncion montevideo santiago valparaiso cordoba rosario mendoza brasilia salvador
fortaleza recife belo-horizonte curitiba porto-alegre manaus belem goiania campinas guadalajara monterrey puebla tijuana
leon merida oaxaca cancun veracruz acapulco queretaro aguascalientes chihuahua hermosillo culiacan morelia
nagoya sapporo fukuoka kobe yokohama sendai hiroshima kumamoto naha nara kanazawa niigata okayama nagasaki shizuoka
busan incheon daegu daejeon gwangju ulsan suwon jeju nanjing hangzhou suzhou xian chongqing qingdao dalian shenyang
harbin changchun jinan zhengzhou changsha nanchang fuzhou xiamen ningbo wenzhou kunming guiyang nanning haikou lanzhou
xining urumqi hohhot taiyuan shijiazhuang hefei wuxi foshan dongguan zhuhai macau kaohsiung taichung tainan hsinchu
ulaanbaatar vladivostok irkutsk novosibirsk omsk tomsk krasnoyarsk yekaterinburg perm ufa kazan samara saratov volgograd
rostov krasnodar sochi voronezh tula yaroslavl saint-petersburg moscow murmansk minsk brest gomel vitebsk lviv odesa
kharkiv dnipro poltava chisinau iasi cluj timisoara brasov constanta craiova varna plovdiv burgas skopje tirana
pristina podgorica sarajevo mostar split dubrovnik rijeka zadar novi-sad nis maribor graz linz salzburg innsbruck
klagenfurt brno ostrava plzen olomouc kosice debrecen szeged pecs gyor krakow gdansk wroclaw poznan lodz lublin katowice
szczecin torun bialystok kaunas klaipeda tartu parnu daugavpils liepaja turku tampere oulu espoo rovaniemi gothenburg
malmo uppsala lund umea linkoping orebro bergen trondheim stavanger tromso bodo aarhus odense aalborg esbjerg
rotterdam the-hague utrecht eindhoven groningen maastricht leiden delft haarlem tilburg breda nijmegen antwerp ghent
bruges liege leuven namur mons luxembourg bonn dusseldorf dortmund essen leipzig dresden hanover nuremberg stuttgart
bremen mannheim karlsruhe freiburg heidelberg mainz wiesbaden augsburg regensburg ulm kiel lubeck rostock erfurt weimar
jena kassel aachen munster bielefeld osnabruck potsdam magdeburg halle chemnitz bern basel lausanne lucerne lugano
winterthur st-gallen strasbourg nantes lille rennes grenoble montpellier dijon reims tours angers nancy metz rouen caen
le-havre brest-sur-mer limoges clermont-ferrand avignon nimes cannes antibes annecy pau perpignan toulon besancon
bilbao zaragoza malaga granada cadiz murcia alicante palma las-palmas salamanca toledo vigo gijon santander pamplona
burgos valladolid girona tarragona almeria coimbra braga faro funchal aveiro evora setubal bologna genoa verona padua
trieste bergamo brescia modena parma ravenna rimini ancona perugia siena pisa lucca bari lecce taranto palermo catania
messina syracuse cagliari sassari valletta nicosia limassol larnaca thessaloniki patras heraklion chania ioannina volos
rhodes corfu birmingham liverpool leeds sheffield bristol nottingham leicester newcastle southampton brighton oxford
cambridge york bath exeter plymouth norwich cardiff swansea belfast aberdeen dundee inverness cork galway limerick
waterford derry antalya adana konya gaziantep kayseri trabzon eskisehir mersin samsun diyarbakir erzurum aleppo damascus
homs basra mosul erbil najaf kuwait-city manama doha abu-dhabi sharjah muscat salalah sanaa aden jeddah mecca medina
dammam isfahan shiraz tabriz mashhad qom yazd kerman herat kandahar mazar-i-sharif quetta peshawar multan faisalabad
rawalpindi sialkot amritsar ludhiana chandigarh jaipur jodhpur udaipur agra lucknow kanpur varanasi patna ranchi
guwahati shillong bhubaneswar visakhapatnam vijayawada madurai coimbatore kochi thiruvananthapuram mysore mangalore goa
pune nagpur nashik surat ahmedabad vadodara rajkot indore bhopal gwalior raipur dehradun shimla srinagar leh
chittagong sylhet khulna rajshahi thimphu pokhara kandy galle jaffna male mandalay naypyidaw chiang-mai phuket pattaya
khon-kaen hat-yai luang-prabang siem-reap battambang da-nang hue haiphong can-tho nha-trang dalat penang ipoh
johor-bahru malacca kuching kota-kinabalu bandar-seri-begawan semarang yogyakarta malang denpasar makassar palembang
padang pekanbaru pontianak balikpapan banjarmasin manado ambon jayapura dili port-moresby lae baguio iloilo bacolod
zamboanga general-santos darwin hobart cairns townsville gold-coast newcastle-on-hunter wollongong geelong ballarat
bendigo hamilton tauranga dunedin queenstown napier nelson suva noumea papeete apia nukualofa honiara port-vila
hilo fairbanks juneau whitehorse yellowknife victoria kelowna saskatoon regina thunder-bay sudbury london-on-thames
kitchener windsor kingston-upon-lake sherbrooke moncton fredericton saint-john charlottetown st-johns spokane tacoma
eugene salem boise missoula billings helena bozeman salt-lake-city provo reno fresno oakland berkeley bakersfield
long-beach anaheim riverside santa-barbara tucson flagstaff albuquerque santa-fe el-paso lubbock amarillo fort-worth
waco corpus-christi laredo galveston oklahoma-city tulsa wichita topeka lincoln des-moines cedar-rapids sioux-falls
fargo bismarck duluth madison green-bay peoria springfield indianapolis fort-wayne louisville lexington cincinnati
columbus toledo-on-lake dayton akron grand-rapids lansing ann-arbor buffalo rochester albany ithaca burlington
montpelier concord portsmouth providence hartford new-haven newark trenton princeton wilmington annapolis richmond
norfolk roanoke raleigh durham greensboro asheville charleston savannah columbia augusta macon birmingham-on-cahaba
montgomery mobile jackson baton-rouge shreveport little-rock knoxville chattanooga jacksonville tallahassee pensacola
sarasota naples-on-gulf key-west nassau hamilton-on-reach bridgetown port-of-spain castries georgetown paramaribo
cayenne willemstad oranjestad fort-de-france basseterre santiago-de-cuba camaguey holguin santa-clara trinidad belize-city
flores antigua quetzaltenango san-pedro-sula granada-on-cocibolca liberia-on-tempisque san-jose-on-virilla limon david colon barranquilla
cartagena bucaramanga pereira manizales santa-marta cucuta popayan maracaibo valencia-on-lake barquisimeto maracay
ciudad-bolivar cuenca loja manta ambato trujillo chiclayo piura iquitos tacna puno huancayo sucre potosi oruro tarija
encarnacion ciudad-del-este salto colonia punta-del-este antofagasta iquique la-serena concepcion temuco valdivia
puerto-montt punta-arenas salta tucuman mar-del-plata la-plata bariloche neuquen ushuaia santa-fe-on-parana parana posadas
resistencia corrientes florianopolis joinville blumenau santos sao-luis natal maceio aracaju joao-pessoa teresina
cuiaba campo-grande vitoria ouro-preto uberlandia londrina maringa pelotas macapa palmas porto-velho rio-branco boa-vista
fez tangier agadir meknes oran constantine annaba sfax sousse benghazi giza luxor aswan port-said suez mansoura
omdurman juba asmara djibouti mogadishu hargeisa mombasa kisumu nakuru entebbe gulu kigali bujumbura dodoma arusha
mwanza zanzibar lilongwe blantyre ndola livingstone bulawayo gaborone windhoek walvis-bay maseru mbabane pretoria
bloemfontein port-elizabeth east-london beira nampula antananarivo toamasina port-louis saint-denis moroni lubumbashi
goma kisangani matadi brazzaville pointe-noire libreville malabo yaounde douala bangui ndjamena niamey ouagadougou
bobo-dioulasso bamako timbuktu nouakchott banjul bissau conakry freetown monrovia yamoussoukro kumasi tamale lome cotonou
porto-novo ibadan abuja kano kaduna enugu benin-city port-harcourt calabar jos praia mindelo sao-tome
"""

CITIES: Final = tuple(_NAMES.split())

_QUARTERS: Final = ("north", "south", "east", "west", "harbour", "airport", "old-town", "hills", "riverside")


def city_names(count: int) -> tuple[str, ...]:
    """Return ``count`` names, all different; past the list of cities come their quarters."""
    return tuple(islice(_all_names(), count))


def _all_names() -> Iterator[str]:
    yield from CITIES
    for quarter in _QUARTERS:
        yield from (f"{city}-{quarter}" for city in CITIES)
